//! Clients of the API server, each with the timeouts that its use needs, all of them counted.

use super::clock;
use crate::telemetry::metrics::Metrics;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tower::{BoxError, Layer, Service, ServiceBuilder};

/// After trouble with the API server others may be busy for so long with what they could not write meanwhile.
const UNSTEADY: SignedDuration = SignedDuration::from_secs(60);

/// Clients by use.
#[derive(Clone)]
pub struct Cluster {
    /// Reads and writes of objects.
    pub objects: Client,
    /// Watches: silent for minutes.
    pub watches: Client,
    /// The Lease: an answer that is late is no answer.
    pub lease: Client,
    /// Second of the last trouble.
    trouble: Arc<AtomicI64>,
}

impl Cluster {
    /// Clients for the cluster that `KUBECONFIG`, the default kubeconfig or the Pod's own ServiceAccount names.
    ///
    /// # Errors
    /// Where none of them names a cluster that can be talked to.
    pub async fn connect(metrics: &Metrics) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::of(&Config::infer().await?, metrics)?)
    }

    /// Clients for one cluster.
    ///
    /// # Errors
    /// Where its credentials cannot be used.
    pub fn of(config: &Config, metrics: &Metrics) -> Result<Self, kube::Error> {
        // Nothing is known of what was before us.
        let trouble = Arc::new(AtomicI64::new(clock::now().as_second()));
        let client = |read_timeout| -> Result<Client, kube::Error> {
            let mut config = config.clone();
            config.connect_timeout = Some(Duration::from_secs(5));
            config.read_timeout = Some(Duration::from_secs(read_timeout));
            // Proxy variables of the environment are nobody's configuration.
            config.proxy_url = None;
            // A retry inside the client would hide an outage from the deadlines of reconcile and Lease.
            config.default_retry = false;
            let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
            let counted = Counted { metrics: metrics.clone(), host, trouble: trouble.clone() };
            let builder = ClientBuilder::new(prompt(&config)?, config.default_namespace);
            Ok(builder.with_layer(&counted).build())
        };
        // The API server ends a watch after 290 s at the latest.
        Ok(Self { objects: client(15)?, watches: client(300)?, lease: client(5)?, trouble })
    }

    /// Until when another instance may still be busy with what it could not write: a minute after the API server failed
    /// us last, or after our own start.
    pub fn unsteady_until(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.trouble.load(Ordering::Relaxed)).ok().map(|trouble| trouble + UNSTEADY)
    }
}

/// What kube's own builder makes, but for TCP's Nagle algorithm: a write, whose head and body go in two packets, would wait up
/// to 40 ms for the API server's delayed acknowledgement.
fn prompt(
    config: &Config,
) -> Result<
    impl Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send + 'static> + Send + 'static,
    kube::Error,
> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let client = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build(connector);
    Ok(ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client))
}

#[derive(Clone)]
struct Counted {
    metrics: Metrics,
    host: String,
    trouble: Arc<AtomicI64>,
}

impl<S> Layer<S> for Counted {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedService { inner, counted: self.clone() }
    }
}

struct CountedService<S> {
    inner: S,
    counted: Counted,
}

impl<S, B> Service<Request<Body>> for CountedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method().to_string();
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let Counted { metrics, host, trouble } = self.counted.clone();
        let began = Instant::now();
        let reply = self.inner.call(request);
        Box::pin(async move {
            let reply = reply.await;
            let code = reply.as_ref().map_or_else(|_| "<error>".to_owned(), |reply| reply.status().as_u16().to_string());
            if reply.as_ref().map_or(true, |reply| reply.status().is_server_error()) {
                trouble.store(clock::now().as_second(), Ordering::Relaxed);
            }
            metrics.api_requests.with_label_values(&[&code, &method, &host]).inc();
            if !watch {
                metrics.api_duration.with_label_values(&[&method, &host]).observe(began.elapsed().as_secs_f64());
            }
            reply
        })
    }
}
