//! The hub's interface: lists the models of a repository, and fetches one into the cache in
//! the layout of the hub's own tools.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::download::{self, Whence};
use crate::name::{self, RepoFile};
use crate::{Error, HubCache, HubName};

/// Address of the hub, unless `HF_ENDPOINT` gives another.
const ENDPOINT: &str = "https://huggingface.co";

/// Longest description of a repository that is accepted, in bytes.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Timeout of connecting, of the beginning of a response, and of each read.
const PATIENCE: Duration = Duration::from_secs(30);

/// A hub.
#[derive(Debug)]
pub struct Hub {
    agent: Agent,
    /// Does not follow redirects, so that the hub's own headers can be read.
    staying: Agent,
    endpoint: String,
    token: Option<String>,
}

/// A model on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteModel {
    /// `ORG/REPO`.
    pub repo: String,
    /// The revision's commit.
    pub commit: String,
    /// Its name within the repository.
    pub name: String,
    /// Its file, or its parts in order.
    pub files: Vec<RemoteFile>,
}

impl RemoteModel {
    /// Sum of the lengths of all parts.
    pub fn bytes(&self) -> u64 {
        let lens = self.files.iter().map(|file| file.len);
        lens.fold(0, u64::saturating_add)
    }
}

/// A file on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path in the repository.
    pub path: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// A hub's description of a repository.
#[derive(Debug, Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: String,
    size: u64,
}

impl Hub {
    /// The hub of `HF_ENDPOINT`, with the token of `HF_TOKEN` or of the file in which the
    /// hub's own tools keep it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if `HF_ENDPOINT` is not an HTTP address.
    pub fn from_env() -> Result<Self, Error> {
        let text = |name: &str| {
            let value = std::env::var(name).unwrap_or_default().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let kept = || {
            let path = text("HF_TOKEN_PATH").map(PathBuf::from);
            let home = || Some(text("HF_HOME").map(PathBuf::from)?.join("token"));
            let usual = || Some(PathBuf::from(text("HOME")?).join(".cache/huggingface/token"));
            let token = fs::read_to_string(path.or_else(home).or_else(usual)?).ok()?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Self::at(&endpoint, text("HF_TOKEN").or_else(kept))
    }

    /// The hub at an address.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if it is not an HTTP address.
    pub fn at(endpoint: &str, token: Option<String>) -> Result<Self, Error> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let is_address = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        let token = token.filter(|token| token.bytes().all(|c| c.is_ascii_graphic()));
        if !is_address {
            let why = "HF_ENDPOINT must begin with https:// or http://".into();
            return Err(Error::Unreachable { endpoint, why });
        }
        let config = || {
            Agent::config_builder()
                .user_agent(concat!("delayline/", env!("CARGO_PKG_VERSION")))
                .http_status_as_error(false)
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .timeout_connect(Some(PATIENCE))
                .timeout_recv_response(Some(PATIENCE))
                .timeout_per_read(Some(PATIENCE))
        };
        let staying = config().max_redirects(0).max_redirects_will_error(false);
        Ok(Self {
            agent: config().build().into(),
            staying: staying.build().into(),
            endpoint,
            token,
        })
    }

    /// The model that a name selects.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`], [`Error::Unclear`] if the name matches
    /// none or several, and [`Error::InvalidResponse`].
    pub fn model(&self, name: &HubName) -> Result<RemoteModel, Error> {
        let repo = &name.repo;
        let mut answer = self.get(&format!("api/models/{repo}/revision/main?blobs=true"))?;
        if answer.status() == 404 {
            answer = self.get(&format!("api/models/{repo}?blobs=true"))?;
        }
        self.accept(&answer, repo)?;
        let body = answer.into_body().into_with_config().limit(LONGEST_ANSWER);
        let said: Repository = serde_json::from_reader(body.reader())
            .map_err(|error| self.invalid_response(format!("{repo}: {error}")))?;
        if said.sha.is_empty() || !said.sha.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Err(self.invalid_response(format!("a revision `{}`", said.sha.escape_debug())));
        }
        let mut all = Vec::new();
        for sibling in said.siblings {
            let path = PathBuf::from(&sibling.rfilename);
            let plain = |part| matches!(part, Component::Normal(_));
            if path.components().all(plain) && !sibling.rfilename.contains(char::is_control) {
                let len = sibling.lfs.as_ref().map(|lfs| lfs.size).or(sibling.size);
                all.push(RepoFile {
                    path,
                    len: len.unwrap_or(0),
                    sha256: sibling.lfs.map(|lfs| lfs.sha256),
                });
            }
        }
        let models = name::models(all);
        if models.is_empty() {
            let why = "it has no GGUF file".into();
            return Err(self.refused(repo, why));
        }
        let chosen = name.choose(&models)?;
        if chosen.missing > 0 {
            let why = format!("{} of its parts are not there", chosen.missing);
            return Err(self.refused(&chosen.name, why));
        }
        let files = chosen.files.iter();
        let files = files.map(|file| self.remote_file(file, repo, &said.sha));
        Ok(RemoteModel {
            files: files.collect::<Result<_, _>>()?,
            repo: repo.clone(),
            name: chosen.name.clone(),
            commit: said.sha,
        })
    }

    /// A listed file with its checksum, which is requested if it is not listed.
    fn remote_file(&self, file: &RepoFile, repo: &str, commit: &str) -> Result<RemoteFile, Error> {
        let path = &file.path;
        let (sha256, len) = match &file.sha256 {
            Some(sha256) => (sha256.clone(), file.len),
            None => self.head(&resolve(repo, commit, path), path)?,
        };
        if sha256.len() != 64 || !sha256.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(self.invalid_response(format!(
                "no checksum of {}, so that what is fetched could not be checked",
                path.display()
            )));
        }
        Ok(RemoteFile {
            path: path.clone(),
            len,
            sha256: sha256.to_ascii_lowercase(),
        })
    }

    /// Checksum and length of a file, from the hub's headers before it redirects.
    fn head(&self, at: &str, path: &Path) -> Result<(String, u64), Error> {
        let url = format!("{}/{at}", self.endpoint);
        let answer = self.authorized(self.staying.head(&url)).call();
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_redirection() {
            self.accept(&answer, &path.display().to_string())?;
        }
        let header = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.trim_start_matches("W/").trim_matches('"').to_owned())
        };
        let sum = header("x-linked-etag").or_else(|| header("etag"));
        let len = header("x-linked-size").or_else(|| header("content-length"));
        let len = len.and_then(|len| len.parse().ok());
        let what = || format!("no length of {}", path.display());
        let len = len.ok_or_else(|| self.invalid_response(what()))?;
        Ok((sum.unwrap_or_default(), len))
    }

    /// Fetches what is missing of a model in the cache, and returns its file, or its first
    /// part. An interrupted fetch is continued. `progress` is called with the bytes fetched
    /// so far, and returns false to interrupt.
    ///
    /// # Errors
    /// If there is not enough room, the hub stops, or what it sends is not what it listed;
    /// nothing of that is used.
    pub fn fetch(
        &self,
        cache: &HubCache,
        model: &RemoteModel,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<PathBuf, Error> {
        let folder = cache.repo(&model.repo);
        let (blobs, locks) = (folder.join("blobs"), cache.locks(&model.repo));
        for folder in [&blobs, &locks] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        download::check_room(&blobs, &model.files)?;
        let mut before = 0;
        for file in &model.files {
            let lock = locks.join(format!("{}.lock", file.sha256));
            let mut told = |bytes| progress(before + bytes);
            let _lock = download::lock(&lock, &mut || told(0))?;
            let whence = Whence {
                hub: self,
                at: resolve(&model.repo, &model.commit, &file.path),
                file,
            };
            download::download(&whence, &blobs, &mut told)?;
            before += file.len;
        }
        let snapshot = folder.join("snapshots").join(&model.commit);
        for file in &model.files {
            download::link(&blobs, &snapshot, file)?;
        }
        let refs = folder.join("refs");
        fs::create_dir_all(&refs).map_err(Error::io(&refs))?;
        let main = refs.join("main");
        fs::write(&main, &model.commit).map_err(Error::io(&main))?;
        Ok(snapshot.join(&model.files[0].path))
    }

    /// Requests the bytes `from..until` of a file.
    pub(crate) fn piece(&self, at: &str, from: u64, until: u64) -> Result<Response<Body>, Error> {
        let url = format!("{}/{at}", self.endpoint);
        let range = format!("bytes={from}-{}", until - 1);
        let asked = self.authorized(self.agent.get(&url)).header("Range", range);
        asked.call().map_err(|error| self.unreachable(&error))
    }

    fn get(&self, at: &str) -> Result<Response<Body>, Error> {
        let url = format!("{}/{at}", self.endpoint);
        let answer = self.authorized(self.agent.get(&url)).call();
        answer.map_err(|error| self.unreachable(&error))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Fails unless the response is a success.
    pub(crate) fn accept(&self, answer: &Response<Body>, what: &str) -> Result<(), Error> {
        let why = match answer.status().as_u16() {
            200..=299 => return Ok(()),
            401 | 403 => match self.token {
                Some(_) => "the token has no access: the terms may have to be accepted first",
                None => "it does not exist, or requires a token: set HF_TOKEN",
            }
            .into(),
            404 => "it does not exist".into(),
            status => format!("status {status}"),
        };
        Err(self.refused(what, why))
    }

    fn refused(&self, what: &str, why: String) -> Error {
        Error::Refused {
            endpoint: self.endpoint.clone(),
            what: what.to_owned(),
            why,
        }
    }

    pub(crate) fn invalid_response(&self, what: String) -> Error {
        Error::InvalidResponse {
            endpoint: self.endpoint.clone(),
            what,
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Error {
        Error::Unreachable {
            endpoint: self.endpoint.clone(),
            why: error.to_string(),
        }
    }
}

/// The path of a file on a hub.
fn resolve(repo: &str, commit: &str, path: &Path) -> String {
    let mut at = format!("{repo}/resolve/{commit}");
    for part in path.components() {
        at.push('/');
        for byte in part.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    at.push(char::from(*byte));
                }
                byte => at.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    at
}
