//! The files of the web page, compiled into the program, with their paths, media types and
//! security headers. Knows no web framework.

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// The path of its URL.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($path:literal, $name:literal, $media_type:expr) => {
        File {
            path: $path,
            media_type: $media_type,
            text: include_str!(concat!("../page/", $name)),
        }
    };
}

/// All files. They are served without a key, because they reveal nothing of the model.
pub const FILES: &[File] = &[
    file!("/", "index.html", HTML),
    file!("/page/style.css", "style.css", CSS),
    file!("/page/icon.svg", "icon.svg", SVG),
    file!("/page/main.js", "main.js", SCRIPT),
    file!("/page/announce.js", "announce.js", SCRIPT),
    file!("/page/api.js", "api.js", SCRIPT),
    file!("/page/chat.js", "chat.js", SCRIPT),
    file!("/page/events.js", "events.js", SCRIPT),
    file!("/page/figures.js", "figures.js", SCRIPT),
    file!("/page/history.js", "history.js", SCRIPT),
    file!("/page/live.js", "live.js", SCRIPT),
    file!("/page/loop.js", "loop.js", SCRIPT),
    file!("/page/motion.js", "motion.js", SCRIPT),
    file!("/page/experts.js", "experts.js", SCRIPT),
    file!("/page/plots.js", "plots.js", SCRIPT),
    file!("/page/theme.js", "theme.js", SCRIPT),
    file!("/page/units.js", "units.js", SCRIPT),
];

/// Headers of each file. Inline code and other origins are forbidden, so that a model's text
/// can do no harm. A browser revalidates each time, since the files change with the program.
pub const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
];

/// The file at a path.
pub fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between each occurrence of `before` and the next quote.
    fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default())
    }

    #[test]
    fn all_that_the_page_names_is_there() {
        let mut named = vec!["/"];
        for file in FILES {
            named.extend(quoted(file.text, " src=\""));
            named.extend(quoted(file.text, " href=\"").filter(|to| !to.starts_with('#')));
            named.extend(quoted(file.text, " from \"./").map(|name| {
                FILES
                    .iter()
                    .find(|f| f.path.strip_prefix("/page/") == Some(name))
                    .unwrap_or_else(|| panic!("{} imports {name}", file.path))
                    .path
            }));
        }
        for path in &named {
            assert!(file(path).is_some(), "{path}");
        }
        for file in FILES {
            assert!(
                named.contains(&file.path),
                "{} is used by nobody",
                file.path
            );
        }
    }

    #[test]
    fn nothing_is_inline_and_text_is_never_markup() {
        let page = file("/").expect("the page").text;
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script type=\"module\" src=\"/page/main.js\"></script>"));
        for bad in ["style=\"", "<style", "onclick", "javascript:"] {
            assert!(!page.contains(bad), "{bad}");
        }
        for script in FILES.iter().filter(|file| file.media_type == SCRIPT) {
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!script.text.contains(bad), "{}: {bad}", script.path);
            }
        }
    }
}
