//! Files in and out of a container, as the tar archives that the engine takes and gives.

use std::{
    io::Read,
    path::{Component, Path},
};

use bollard::{body_full, errors::Error as Fault, query_parameters as query};
use futures::StreamExt;
use tar::{Archive, Builder, EntryType, Header};

use super::{Docker, errors::Task};
use crate::model::{EngineId, Error, File, Kind, Result};

/// What an archive may take beside the files' content: enough for the headers of a thousand files.
const HEADERS: usize = 1 << 20;

/// Puts files below `into`.
pub(super) async fn put(docker: &Docker, id: &EngineId, into: &str, files: &[File]) -> Result<()> {
    docker.own(id).await?;
    let archive = pack(files)?;
    let options = query::UploadToContainerOptions { path: into.to_owned(), ..Default::default() };
    let task = Task::Put(into);
    let sent =
        async { docker.client()?.upload_to_container(id.as_str(), Some(options), body_full(archive.into())).await };
    docker.call(task, sent).await
}

/// Reads `path`.
pub(super) async fn get(docker: &Docker, id: &EngineId, path: &str, limit: usize) -> Result<Vec<File>> {
    docker.own(id).await?;
    let options = query::DownloadFromContainerOptions { path: path.to_owned() };
    let received = async {
        let mut archive = Vec::new();
        let mut pieces = Box::pin(docker.client()?.download_from_container(id.as_str(), Some(options)));
        while let Some(piece) = pieces.next().await {
            archive.extend_from_slice(&piece?);
            if archive.len() > limit.saturating_add(HEADERS) {
                // Leaving here closes the connection: the rest is not read.
                return Ok::<_, Fault>(None);
            }
        }
        Ok(Some(archive))
    };
    let too_large = || Error::new(Kind::Unsuitable, format!("{path:?} holds more than {limit} bytes"));
    let archive = docker.call(Task::Get(path), received).await?.ok_or_else(too_large)?;
    let files = unpack(&archive)
        .map_err(|fault| Error::new(Kind::Internal, "the engine's archive cannot be read").caused_by(fault))?;
    if files.is_empty() {
        return Err(Error::not_found(format!("the container has no file {path:?}")));
    }
    let size: usize = files.iter().filter_map(|f| f.content.as_ref()).map(Vec::len).sum();
    if size > limit { Err(too_large()) } else { Ok(files) }
}

/// The archive of these files, in their order.
fn pack(files: &[File]) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for file in files {
        let mut parts = Path::new(&file.path).components().peekable();
        if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::invalid(format!("{:?} is not a path below a directory", file.path)));
        }
        let mut header = Header::new_gnu();
        header.set_mode(file.mode);
        header.set_uid(file.uid);
        header.set_gid(file.gid);
        // Time is for the clock to tell; nothing reads these dates.
        header.set_mtime(0);
        let content = file.content.as_deref().unwrap_or_default();
        header.set_size(content.len() as u64);
        header.set_entry_type(if file.content.is_some() { EntryType::Regular } else { EntryType::Directory });
        archive.append_data(&mut header, &file.path, content).map_err(|fault| {
            Error::invalid(format!("{:?} cannot be put into an archive", file.path)).caused_by(fault)
        })?;
    }
    archive.into_inner().map_err(|fault| Error::new(Kind::Internal, "an archive cannot be made").caused_by(fault))
}

/// The files and directories of an archive. Links, devices and the like are left out: what they lead to may lie anywhere.
fn unpack(archive: &[u8]) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_dir() {
            continue;
        }
        let path = entry.path_bytes();
        let path = String::from_utf8_lossy(&path).trim_end_matches('/').to_owned();
        let mut content = None;
        if kind.is_file() {
            entry.read_to_end(content.insert(Vec::new()))?;
        }
        let header = entry.header();
        let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
        files.push(File { path, mode, uid, gid, content });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: Option<&[u8]>) -> File {
        File { path: path.to_owned(), mode: 0o640, uid: 3_000_000_000, gid: 7, content: content.map(<[u8]>::to_vec) }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let long = format!("d/{}", "x".repeat(200));
        let files =
            [file("d", None), file("d/f", Some(b"hello")), file(&long, Some(b"")), file("d/e", Some(&[0; 4096]))];
        assert_eq!(unpack(&pack(&files).unwrap()).unwrap(), files);
    }

    #[test]
    fn a_path_stays_below_the_directory() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "./x"] {
            assert_eq!(pack(&[file(bad, Some(b"x"))]).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_cut_archive_is_an_error_and_links_are_left_out() {
        let archive = pack(&[file("f", Some(&[1; 2000]))]).unwrap();
        assert!(unpack(&archive[..1000]).is_err());
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", "/etc/shadow").unwrap();
        assert!(unpack(&builder.into_inner().unwrap()).unwrap().is_empty());
    }
}
