//! Fetching from a local server with the hub's interface, and from servers that stop, send
//! wrong bytes, redirect or refuse.

use std::fs;
use std::path::Path;

use delayline_hub::{Error, Hub, HubCache, HubName};
use delayline_testing::http::{FakeHubFile, FakeServer, HttpReply, HttpRequest};
use sha2::{Digest, Sha256};

const COMMIT: &str = "abc123def";

/// The hub at a server.
fn hub(server: &FakeServer) -> Hub {
    Hub::at(&server.endpoint, Some("a-token".into())).expect("an address")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A hub's description of a repository with these files.
fn listing(files: &[(&str, &[u8])]) -> HttpReply {
    let sums: Vec<String> = files.iter().map(|(_, bytes)| sha256(bytes)).collect();
    let files = files.iter().zip(&sums);
    let files = files.map(|((name, bytes), sha256)| FakeHubFile {
        name,
        len: bytes.len(),
        sha256,
    });
    HttpReply::hub_repository(COMMIT, &files.collect::<Vec<_>>())
}

/// Bytes that differ from seed to seed.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = delayline_testing::seed() | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn cache() -> (tempfile::TempDir, HubCache) {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("hub");
    (dir, HubCache { folder })
}

fn name(text: &str) -> HubName {
    HubName::parse(text).expect("a name").expect("sound")
}

fn fetch(server: &FakeServer, cache: &HubCache, text: &str) -> Result<Vec<u8>, Error> {
    let (hub, name) = (hub(server), name(text));
    let model = hub.model(&name)?;
    let mut last = 0;
    let path = hub.fetch(cache, &model, &mut |bytes| {
        last = bytes;
        true
    })?;
    assert_eq!(last, model.bytes());
    assert_eq!(cache.find(&name).expect("it is there now"), path);
    Ok(fs::read(path).expect("readable"))
}

/// Checks that the cache has no complete file.
fn holds_nothing(cache: &HubCache, text: &str) {
    assert!(cache.find(&name(text)).is_err());
    let blobs = cache.folder.join("models--org--m/blobs");
    for blob in fs::read_dir(blobs).into_iter().flatten().flatten() {
        let unfinished = blob
            .path()
            .extension()
            .is_some_and(|ending| ending == "incomplete");
        assert!(unfinished, "{}", blob.path().display());
    }
}

#[test]
fn what_a_name_means_is_fetched_once() {
    let (small, large) = (bytes(1000), bytes(300_000));
    let parts = [bytes(70_000), bytes(20)];
    let hub = FakeServer::start(move |asked| match asked.path.as_str() {
        "/api/models/org/m/revision/main?blobs=true" => listing(&[
            ("README.md", b"hello"),
            ("m-Q4_K_M.gguf", &small),
            ("m-Q8_0.gguf", &large),
            ("two words/m-BF16-00001-of-00002.gguf", &parts[0]),
            ("two words/m-BF16-00002-of-00002.gguf", &parts[1]),
        ]),
        path => match path.strip_prefix(&format!("/org/m/resolve/{COMMIT}/")) {
            Some("m-Q4_K_M.gguf") => HttpReply::file(asked, &small),
            Some("m-Q8_0.gguf") => HttpReply::file(asked, &large),
            Some("two%20words/m-BF16-00001-of-00002.gguf") => HttpReply::file(asked, &parts[0]),
            Some("two%20words/m-BF16-00002-of-00002.gguf") => HttpReply::file(asked, &parts[1]),
            _ => HttpReply::status(404),
        },
    });
    let (_dir, cache) = cache();
    for (text, len) in [
        ("hf:org/m", 1000),
        ("hf:org/m:q8_0", 300_000),
        ("hf:org/m:bf16", 70_000),
    ] {
        assert!(cache.find(&name(text)).is_err());
        assert_eq!(fetch(&hub, &cache, text).expect("fetched").len(), len);
    }
    let all = cache.models();
    let names: Vec<(&str, u64)> = all.iter().map(|m| (m.name.as_str(), m.bytes)).collect();
    assert_eq!(
        names,
        [
            ("m-Q4_K_M", 1000),
            ("m-Q8_0", 300_000),
            ("two words/m-BF16", 70_020)
        ]
    );
    // What is there is not requested again.
    hub.asked();
    fetch(&hub, &cache, "hf:org/m:Q8_0").expect("there");
    let asked = hub.asked();
    assert!(
        asked.iter().all(|asked| asked.path.starts_with("/api/")),
        "{asked:?}"
    );
    for (text, says) in [
        (
            "hf:org/m:Q2_K",
            "none of the models of org/m matches `Q2_K`: there are m-Q4_K_M",
        ),
        ("hf:org/m:m", "more than one"),
        ("hf:org/other", "org/other: it does not exist"),
    ] {
        let error = fetch(&hub, &cache, text).expect_err(text).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_was_cut_off_goes_on_where_it_was() {
    let file = bytes(900_000);
    let expect = file.clone();
    // Each response ends after 200,000 bytes.
    let hub = FakeServer::start(move |asked| match asked.path.starts_with("/api/") {
        true => listing(&[("m-Q4_K_M.gguf", &file)]),
        false => {
            let piece = HttpReply::file(asked, &file);
            let cut = piece.body.len().min(200_000);
            HttpReply {
                cut: Some(cut),
                ..piece
            }
        }
    });
    let (_dir, cache) = cache();
    let text = "hf:org/m";
    // The caller interrupts in the middle.
    let of = self::hub(&hub);
    let model = of.model(&name(text)).expect("there is one");
    let stopped = of.fetch(&cache, &model, &mut |bytes| bytes < 300_000);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    holds_nothing(&cache, text);
    hub.asked();
    assert_eq!(fetch(&hub, &cache, text).expect("fetched"), expect);
    let from: Vec<usize> = hub
        .asked()
        .iter()
        .filter_map(|a| Some(a.range()?.0))
        .collect();
    assert!(
        from[0] >= 300_000 && from.is_sorted() && from.len() >= 3,
        "{from:?}"
    );
}

#[test]
fn nothing_that_a_hub_gets_wrong_is_used() {
    type Wrong = fn(&HttpRequest, &[u8]) -> HttpReply;
    let wrong: [(&str, Wrong); 10] = [
        ("stopped after 100000 of 150000", |asked, file| {
            let piece = HttpReply::file(asked, file);
            let from = asked.range().map_or(0, |(from, _)| from);
            HttpReply {
                cut: Some(100_000usize.saturating_sub(from)),
                ..piece
            }
        }),
        // It ignores ranges, and stops in the middle each time.
        ("stopped after 90000 of 150000", |_, file| HttpReply {
            body: file.to_vec(),
            cut: Some(90_000),
            ..HttpReply::status(200)
        }),
        ("do not have the checksum", |asked, file| {
            let mut piece = HttpReply::file(asked, file);
            piece.body[7] ^= 1;
            piece
        }),
        ("more bytes than", |_, file| HttpReply {
            body: [file, b"and more"].concat(),
            ..HttpReply::status(200)
        }),
        ("stopped after 149999", |_, file| HttpReply {
            body: file[..file.len() - 1].to_vec(),
            ..HttpReply::status(200)
        }),
        ("of another length", |asked, file| {
            HttpReply::file(asked, &file[..file.len() - 1])
        }),
        ("of another place", |asked, file| {
            let mut piece = HttpReply::file(asked, file);
            piece.headers[0].1 = format!("bytes 1-{}/{}", file.len() - 1, file.len());
            piece
        }),
        ("status 503", |_, _| HttpReply::status(503)),
        ("terms may have to be accepted", |_, _| {
            HttpReply::status(403)
        }),
        ("it does not exist", |_, _| HttpReply::status(404)),
    ];
    let check = |says: &str, answer: Wrong| {
        let file = bytes(150_000);
        let hub = FakeServer::start(move |asked| match asked.path.starts_with("/api/") {
            true => listing(&[("m-Q4_K_M.gguf", &file)]),
            false => answer(asked, &file),
        });
        let (_dir, cache) = cache();
        let error = fetch(&hub, &cache, "hf:org/m").expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
        holds_nothing(&cache, "hf:org/m");
    };
    // In parallel, because of the pauses between retries.
    std::thread::scope(|scope| {
        for (says, answer) in wrong {
            scope.spawn(move || check(says, answer));
        }
    });
}

#[test]
fn nothing_that_a_hub_says_leaves_the_cache() {
    let said = |text: &str| {
        let body = text.to_owned().into_bytes();
        FakeServer::start(move |asked| match asked.path.starts_with("/api/") {
            true => HttpReply {
                body: body.clone(),
                ..HttpReply::status(200)
            },
            false => HttpReply::file(asked, b"GGUF"),
        })
    };
    let sum = sha256(b"GGUF");
    let file = |name: &str, sum: &str| {
        format!(
            r#"{{"sha": "abc", "siblings": [{{"rfilename": "{name}",
                "lfs": {{"sha256": "{sum}", "size": 4}}}}]}}"#
        )
    };
    for (text, says) in [
        (file("../../m.gguf", &sum), "no GGUF file"),
        (file("/etc/m.gguf", &sum), "no GGUF file"),
        (file("a\\u001b[2Jm.gguf", &sum), "no GGUF file"),
        (
            file("m-00001-of-00002.gguf", &sum),
            "1 of its parts are not there",
        ),
        (file("m.gguf", "../../../x"), "no checksum"),
        (file("m.gguf", ""), "no checksum"),
        (r#"{"sha": "../x", "siblings": []}"#.into(), "a revision"),
        (r#"{"sha": "abc"}"#.into(), "siblings"),
        ("no JSON".into(), "an invalid response"),
        (" ".repeat(20_000_000), "an invalid response"),
        (
            format!(
                r#"{{"sha": "abc", "siblings": [
                    {{"rfilename": "m-00001-of-00002.gguf",
                      "lfs": {{"sha256": "{sum}", "size": {max}}}}},
                    {{"rfilename": "m-00002-of-00002.gguf",
                      "lfs": {{"sha256": "{sum}", "size": {max}}}}}]}}"#,
                max = u64::MAX
            ),
            "are needed",
        ),
    ] {
        let (dir, cache) = cache();
        let error = fetch(&said(&text), &cache, "hf:org/m")
            .expect_err(says)
            .to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(!error.contains('\u{1b}'));
        let there: Vec<_> = fs::read_dir(dir.path())
            .expect("a folder")
            .flatten()
            .collect();
        assert!(there.is_empty() || !holds_file(dir.path()), "{there:?}");
    }
}

fn holds_file(folder: &Path) -> bool {
    fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .any(|entry| {
            let kind = entry.file_type().expect("a kind");
            kind.is_file() || kind.is_dir() && holds_file(&entry.path())
        })
}

/// The bytes come from another host, as with the hub itself; only the hub gets the token.
#[test]
fn the_token_goes_to_the_hub_alone() {
    let file = bytes(5000);
    let expect = file.clone();
    let bytes_of = file.clone();
    let elsewhere = FakeServer::start(move |asked| HttpReply::file(asked, &bytes_of));
    let there = elsewhere.endpoint.replace("127.0.0.1", "localhost");
    let hub = FakeServer::start(move |asked| match asked.path.starts_with("/api/") {
        true => listing(&[("m-Q4_K_M.gguf", &file)]),
        false => HttpReply {
            headers: vec![("location".into(), format!("{there}/bytes"))],
            ..HttpReply::status(302)
        },
    });
    let (_dir, cache) = cache();
    assert_eq!(fetch(&hub, &cache, "hf:org/m").expect("fetched"), expect);
    let token = |asked: &HttpRequest| asked.headers.get("authorization").cloned();
    assert!(
        hub.asked()
            .iter()
            .all(|asked| token(asked).as_deref() == Some("Bearer a-token"))
    );
    let asked = elsewhere.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|asked| token(asked).is_none()),
        "{asked:?}"
    );
}

/// A mirror that lists no checksums sends them in the headers of each file, where
/// `huggingface_hub` reads them.
#[test]
fn a_checksum_may_be_in_the_headers_of_a_file() {
    let file = bytes(4000);
    let expect = file.clone();
    let hub = FakeServer::start(move |asked| match asked.path.as_str() {
        "/api/models/org/m?blobs=true" => HttpReply {
            body: format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "m.gguf"}}]}}"#)
                .into_bytes(),
            ..HttpReply::status(200)
        },
        path if path.starts_with("/api/") => HttpReply::status(404),
        _ if asked.range().is_some() => HttpReply::file(asked, &file),
        _ => HttpReply {
            headers: vec![
                ("x-linked-etag".into(), format!("\"{}\"", sha256(&file))),
                ("x-linked-size".into(), file.len().to_string()),
                ("location".into(), "http://localhost:1/".into()),
            ],
            ..HttpReply::status(302)
        },
    });
    let (_dir, cache) = cache();
    assert_eq!(fetch(&hub, &cache, "hf:org/m").expect("fetched"), expect);
}

#[test]
fn a_hub_that_is_not_there_is_an_error() {
    let gone = Hub::at("http://127.0.0.1:1", None).expect("an address");
    let error = gone.model(&name("hf:org/m")).expect_err("gone").to_string();
    assert!(
        error.contains("http://127.0.0.1:1 cannot be reached"),
        "{error}"
    );
    assert!(Hub::at("huggingface.co", None).is_err());
}
