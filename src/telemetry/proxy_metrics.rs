//! Every metric of the proxy, named and explained in one place.

use super::catalogue::{Catalogue, Family};
use super::metrics::{counters, gauges, histograms};
use prometheus::{Encoder, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

/// Metrics of one proxy.
#[derive(Clone)]
pub struct ProxyMetrics {
    registry: Registry,
    /// Requests by account, route and status code; those that no account was found for have an empty account.
    pub requests: IntCounterVec,
    /// From a request's head to the end of its answer, by route.
    pub duration: HistogramVec,
    /// Requests that went on to another account, by the one they left and why.
    pub failovers: IntCounterVec,
    /// Times that the operator was asked for a fresh token, by result.
    pub refreshes: IntCounterVec,
    /// Seconds since 1970 at which an account's token expires.
    pub expiration: IntGaugeVec,
    /// Readings of an account's token Secret by result.
    pub reloads: IntCounterVec,
    /// Readings of the routes file by result.
    pub route_reloads: IntCounterVec,
    /// Answers under way, by route.
    pub open_streams: IntGaugeVec,
    /// Position of an account's breaker at an upstream: 0 closed, 1 half open, 2 open.
    pub breaker: IntGaugeVec,
    /// Answers that were cut, by route and by who broke off.
    pub aborts: IntCounterVec,
    /// Connections of apps that were accepted.
    pub connections: IntCounter,
    /// Those of them that are open.
    pub open_connections: IntGauge,
}

impl ProxyMetrics {
    /// Metrics with a registry of their own.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours, found by every test.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self::catalogued()?.0)
    }

    /// The same with a list of what there is.
    ///
    /// # Errors
    /// As above.
    pub fn catalogued() -> prometheus::Result<(Self, Vec<Family>)> {
        let mut catalogue = Catalogue::default();
        let r = &mut catalogue;
        // From half a millisecond to a quarter of an hour: streams are answers too.
        let seconds = prometheus::exponential_buckets(0.0005, 2.0, 21)?;
        let metrics = Self {
            requests: counters(
                r,
                "oauth_proxy_requests_total",
                "Requests by account, route and status code.",
                &["account", "route", "code"],
            )?,
            duration: histograms(
                r,
                "oauth_proxy_request_duration_seconds",
                "From a request's head to the end of its answer.",
                &["route"],
                seconds,
            )?,
            failovers: counters(
                r,
                "oauth_proxy_failovers_total",
                "Requests that went on to another account.",
                &["from", "reason"],
            )?,
            refreshes: counters(
                r,
                "oauth_proxy_refresh_requests_total",
                "Times that the operator was asked for a fresh token.",
                &["result"],
            )?,
            expiration: gauges(
                r,
                "oauth_proxy_token_expiration_timestamp_seconds",
                "When the account's token expires.",
                &["account"],
            )?,
            reloads: counters(
                r,
                "oauth_proxy_token_reloads_total",
                "Readings of an account's token Secret.",
                &["account", "result"],
            )?,
            route_reloads: counters(r, "oauth_proxy_routes_reloads_total", "Readings of the routes file.", &["result"])?,
            open_streams: gauges(r, "oauth_proxy_open_streams", "Answers under way.", &["route"])?,
            breaker: gauges(
                r,
                "oauth_proxy_breaker_state",
                "Position of an account's breaker at an upstream: 0 closed, 1 half open, 2 open.",
                &["account", "upstream"],
            )?,
            aborts: counters(
                r,
                "oauth_proxy_response_aborts_total",
                "Answers that were cut, by who broke off.",
                &["route", "side"],
            )?,
            connections: r.add(IntCounter::new("oauth_proxy_connections_total", "Connections of apps that were accepted.")?)?,
            open_connections: r.add(IntGauge::new("oauth_proxy_open_connections", "Connections of apps that are open.")?)?,
            registry: r.registry.clone(),
        };
        #[cfg(target_os = "linux")]
        r.add_process()?;
        Ok((metrics, catalogue.families))
    }

    /// All of them, as Prometheus reads them.
    ///
    /// # Errors
    /// Where one cannot be written.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = vec![];
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
