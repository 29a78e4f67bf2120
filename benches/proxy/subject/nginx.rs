//! nginx, doing the proxy's job.

use super::{Ground, Kind, Subject, fixed_token, start};
use crate::testbed::Result;
use crate::testbed::process::free_port;
use std::path::Path;

/// Buffers that hold 64 KiB at once, no files for what does not fit, and request bodies that stream.
const TUNED: &str = "
    proxy_buffer_size 64k;
    proxy_buffers 16 64k;
    proxy_busy_buffers_size 128k;
    proxy_max_temp_file_size 0;
    proxy_request_buffering off;
    client_body_buffer_size 256k;
";

/// One process (`master_process off`: what a worker does, and nothing that would live on when we end), kept-alive
/// connections on both sides without a limit of requests, no log of requests.
pub fn begin(kind: Kind, ground: &Ground<'_>, folder: &Path) -> Result<Subject> {
    let port = free_port()?;
    let authority = folder.join("upstream.crt");
    std::fs::write(&authority, &ground.upstream.authority)?;
    let (tuned, token) = (if kind == Kind::NginxTuned { TUNED } else { "" }, fixed_token(kind, ground)?);
    let configuration = format!(
        r#"daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Authorization "Bearer {token}";
    proxy_set_header Proxy-Authorization "";
    proxy_set_header X-Api-Key "";
    proxy_set_header X-Team bench;
    proxy_set_header X-Request-Id $request_id;
    add_header X-Request-Id $request_id;
    {tuned}
    upstream plain {{ server {plain}; keepalive 2048; keepalive_requests 1000000000; }}
    upstream tls {{ server {tls}; keepalive 2048; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://plain; }}
        location /events/ {{ proxy_pass http://plain; proxy_buffering off; }}
        location /tls/ {{
            proxy_pass https://tls;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
        }}
    }}
}}
"#,
        folder = folder.display(),
        plain = ground.upstream.plain,
        tls = ground.upstream.tls,
        authority = authority.display(),
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let arguments = ["-p", &folder.display().to_string(), "-e", "stderr", "-c", &file.display().to_string()];
    let process = start("nginx", ground, folder, Path::new("nginx"), &arguments.map(str::to_owned))?;
    Ok(Subject::new(kind, ([127, 0, 0, 1], port).into(), process))
}
