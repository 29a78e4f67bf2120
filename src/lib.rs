//! oauth-operator keeps OAuth access tokens fresh in Kubernetes Secrets.
//!
//! Users write [`api`], and [`expression`]s in it; [`oauth`] knows the protocol; for each kind we observe, decide, act and
//! report ([`account`], [`workflow`]); people say yes to a login in [`consent`]; [`injection`] puts the sidecar into Pods; programs ask for a newer token at the [`refresh_endpoint`];
//! the rest of the [`world`] is at arm's length; [`runtime`] keeps it turning, and [`telemetry`] tells how it goes.
//! [`authority`] says when the operator's own CA changes, [`keyring`] with which key a record is encrypted. Beside all of it stands [`proxy`], the sidecar: a program of its own.
//!
//! Each module may use only what stands before it here: `api`, `oauth`, `authority`, `keyring`, `world`, `account`, `consent`,
//! `refresh_endpoint`, `workflow`, `runtime`; `injection` may use `api`; `proxy` may use `api` and `oauth`; `telemetry` may use both, and all may use it. What decides is
//! pure and builds without features, so that the compiler refuses a socket, a client or a runtime in it.

pub mod account;
pub mod api;
pub mod authority;
#[cfg(feature = "operator")]
pub mod consent;
pub mod expression;
#[cfg(all(feature = "proxy", any(test, fuzzing)))]
pub mod fuzz;
pub mod injection;
pub mod keyring;
pub mod oauth;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "operator")]
pub mod refresh_endpoint;
#[cfg(feature = "operator")]
pub mod runtime;
#[cfg(any(feature = "operator", feature = "proxy"))]
pub mod telemetry;
pub mod workflow;
#[cfg(feature = "operator")]
pub mod world;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// What each module may use beside itself.
    const MAY_USE: [(&str, &[&str]); 14] = [
        ("api", &[]),
        ("expression", &[]),
        ("oauth", &["api"]),
        ("authority", &["oauth"]),
        ("keyring", &[]),
        ("telemetry", &["api", "oauth"]),
        ("world", &["api", "authority", "keyring", "oauth", "telemetry"]),
        ("account", &["api", "expression", "keyring", "oauth", "telemetry", "world"]),
        ("consent", &["api", "oauth", "telemetry", "world", "account"]),
        ("proxy", &["api", "oauth", "telemetry"]),
        ("injection", &["api", "telemetry"]),
        ("refresh_endpoint", &["api", "telemetry", "world", "account", "consent"]),
        ("workflow", &["api", "expression", "oauth", "telemetry", "world", "account", "refresh_endpoint"]),
        ("runtime", &["api", "oauth", "telemetry", "world", "account", "consent", "injection", "refresh_endpoint", "workflow"]),
    ];

    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { files(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }

    #[test]
    fn modules_use_only_what_stands_before_them() {
        let mut seen = 0;
        for (module, allowed) in MAY_USE {
            let mut sources = vec![];
            let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
            if place.is_dir() {
                files(&place, &mut sources)
            } else {
                sources.push(place.with_extension("rs"))
            }
            for source in sources {
                let text = std::fs::read_to_string(&source).unwrap();
                for used in text.split("crate::").skip(1) {
                    let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    seen += 1;
                    assert!(used == module || allowed.contains(&used), "{} uses {used}", source.display());
                }
            }
        }
        assert!(seen > 50, "{seen}");
    }
}
