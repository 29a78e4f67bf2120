//! haproxy, doing the proxy's job.

use super::{Ground, Kind, Subject, fixed_token, start};
use crate::testbed::Result;
use crate::testbed::process::free_port;
use std::path::Path;

/// One thread in the foreground, nothing held back for larger packets, server connections shared by all clients, no log of
/// requests.
pub fn begin(ground: &Ground<'_>, folder: &Path) -> Result<Subject> {
    let (port, token) = (free_port()?, fixed_token(Kind::Haproxy, ground)?);
    let authority = folder.join("upstream.crt");
    std::fs::write(&authority, &ground.upstream.authority)?;
    let configuration = format!(
        r#"global
    nbthread 1
    maxconn 4096
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend data
    bind 127.0.0.1:{port} backlog 4096
    http-request set-header authorization "Bearer {token}"
    http-request del-header proxy-authorization
    http-request del-header x-api-key
    http-request set-header x-team bench
    http-request set-var(txn.request_id) uuid()
    http-request set-header x-request-id %[var(txn.request_id)]
    http-response set-header x-request-id %[var(txn.request_id)]
    use_backend tls if {{ path_beg /tls/ }}
    default_backend plain
backend plain
    server upstream {plain}
backend tls
    server upstream {tls} ssl verify required ca-file {authority} verifyhost localhost sni str(localhost)
"#,
        plain = ground.upstream.plain,
        tls = ground.upstream.tls,
        authority = authority.display(),
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, configuration)?;
    let arguments = ["-db", "-f", &file.display().to_string()].map(str::to_owned);
    let process = start("haproxy", ground, folder, Path::new("haproxy"), &arguments)?;
    Ok(Subject::new(Kind::Haproxy, ([127, 0, 0, 1], port).into(), process))
}
