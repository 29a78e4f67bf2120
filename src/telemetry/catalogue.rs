//! Registers metrics, and knows afterwards which there are: docs/monitoring.md lists them all, and a test compares.

use super::metrics::AccountGauge;
use prometheus::Registry;
use prometheus::core::Collector;

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it tells.
    pub help: String,
}

/// A registry, and what is registered there.
#[derive(Default)]
pub struct Catalogue {
    /// For scrapes.
    pub registry: Registry,
    /// In the order of their registration.
    pub families: Vec<Family>,
}

impl Catalogue {
    /// Registers a metric, or several of one collector.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn add<C: Collector + Clone + 'static>(&mut self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        self.list(&collector);
        Ok(collector)
    }

    /// The process's own: memory, CPU, open files.
    ///
    /// # Errors
    /// Where they are registered already.
    #[cfg(target_os = "linux")]
    pub fn add_process(&mut self) -> prometheus::Result<()> {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.list(&process);
        self.registry.register(Box::new(process))
    }

    fn list(&mut self, collector: &impl Collector) {
        let collected = collector.collect();
        for description in collector.desc() {
            let family = collected.iter().find(|family| family.name() == description.fq_name);
            let kind = family.map(|family| format!("{:?}", family.get_field_type()).to_ascii_lowercase());
            self.families.push(Family {
                name: description.fq_name.clone(),
                kind: kind.unwrap_or_default(),
                labels: description.variable_labels.clone(),
                help: description.help.clone(),
            });
        }
    }

    /// One that is written at scrape time and registered nowhere.
    pub fn list_account_gauge(&mut self, gauge: &AccountGauge) {
        self.families.push(Family {
            name: gauge.name.to_owned(),
            kind: "gauge".to_owned(),
            labels: ["namespace", "name"].iter().chain(gauge.labels).map(|label| (*label).to_owned()).collect(),
            help: gauge.help.to_owned(),
        });
    }
}

#[cfg(all(test, feature = "operator", feature = "proxy"))]
mod tests {
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::proxy_metrics::ProxyMetrics;

    #[test]
    fn every_metric_stands_in_the_documentation_and_none_that_there_is_not() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
        let (_, mut families) = Metrics::catalogued(32).unwrap();
        // Both processes have these.
        let shared = |name: &str| name.starts_with("process_");
        families.extend(ProxyMetrics::catalogued().unwrap().1.into_iter().filter(|family| !shared(&family.name)));
        let rows = families.iter().map(|family| {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {} | {} | {} |", family.name, family.kind, labels.join(", "), family.help)
        });
        let expected: Vec<_> = rows.collect();
        let names = ["| `oauth_", "| `controller_", "| `workqueue_", "| `rest_client_", "| `leader_", "| `process_"];
        let listed: Vec<_> = page.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).collect();
        let missing: Vec<_> = expected.iter().filter(|row| !listed.contains(&row.as_str())).collect();
        let unknown: Vec<_> = listed.iter().filter(|row| !expected.iter().any(|known| known == **row)).collect();
        let both = format!("missing in docs/monitoring.md:\n{missing:#?}\nthere, and no metric:\n{unknown:#?}");
        assert!(missing.is_empty() && unknown.is_empty(), "{both}");
        assert!(families.iter().all(|family| !family.kind.is_empty() && family.help.ends_with('.')), "{families:#?}");
    }
}
