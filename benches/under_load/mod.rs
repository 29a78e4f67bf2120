//! From apply to Secret when there is something else to do, and memory while strangers' Secrets come and go.

use crate::cost::memory;
use crate::figures::Figure;
use crate::testbed::Result;
use crate::testbed::operator::Operator;
use crate::testbed::story::Story;
use crate::{Applied, from_apply_to_secret, published, settled};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

/// Of so many accounts that start anew, one is applied meanwhile: one after another, and all before the others have started.
const ONE_IN: usize = 200;
/// Secrets of somebody else, and their size.
const FOREIGN: usize = 300;
const FOREIGN_BYTES: usize = 1_000_000;
const ROUNDS: usize = 3;

/// Ends the operator in order.
async fn end(operator: Operator) -> Result<()> {
    operator.process.signal(Signal::TERM);
    operator.process.end_within(Duration::from_secs(30)).await.map(drop).ok_or_else(|| "SIGTERM does not end it".into())
}

/// An account that is applied as soon as a new process is ready, with all others resting; then, with all tokens gone, accounts that
/// are applied while all others start.
pub async fn measure(
    story: &Story<'_>,
    client: &Client,
    count: usize,
    operator: Operator,
    applied: Applied<'_>,
) -> Result<(Operator, Vec<Figure>)> {
    end(operator).await?;
    let operator = story.released_operator("oauth-operator", None).await?;
    let restarted = from_apply_to_secret(client, &applied, "restarted", 1).await?[0];

    end(operator).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &story.apps);
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=oauth-operator");
    secrets.delete_collection(&DeleteParams::default(), &ours).await?;
    let operator = story.released_operator("oauth-operator", None).await?;
    let mut meanwhile = from_apply_to_secret(client, &applied, "meanwhile", (count / ONE_IN).max(1)).await?;
    eprintln!("{count} starting: apply to Secret, one after another: {meanwhile:.0?} ms");
    meanwhile.sort_by(f64::total_cmp);
    let there = secrets.list_metadata(&ours).await?.items.len();
    if there >= count {
        return Err("all others had started before the last one was applied: this measures nothing".into());
    }
    published(client, &story.apps, count).await?;
    // Their second tokens.
    settled(applied.accounts, count, 2).await?;
    let slowest = meanwhile[meanwhile.len() - 1];
    Ok((
        operator,
        vec![
            Figure::at_most(format!("{count} resting: apply to Secret after a restart"), "ms", restarted, 2000.0),
            Figure::at_most(format!("{count} starting: apply to Secret, slowest of {}", meanwhile.len()), "ms", slowest, 1000.0),
        ],
    ))
}

/// By how much memory grows while large Secrets of somebody else come and go.
pub async fn strangers(story: &Story<'_>, client: &Client, count: usize, operator: &Operator) -> Result<Figure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &story.apps);
    let mut resting = vec![memory(&operator.process, "VmRSS")?];
    for _ in 0..ROUNDS {
        stream::iter(0..FOREIGN)
            .map(|number| {
                let secrets = secrets.clone();
                async move {
                    let name = format!("foreign-{number}");
                    let data = "x".repeat(FOREIGN_BYTES);
                    let secret = json!({"metadata": {"name": name}, "stringData": {"data": data}});
                    secrets.create(&PostParams::default(), &serde_json::from_value(secret).expect("a Secret")).await?;
                    secrets.delete(&name, &DeleteParams::default()).await.map(drop)
                }
            })
            .buffer_unordered(4)
            .try_collect::<Vec<()>>()
            .await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        resting.push(memory(&operator.process, "VmRSS")?);
    }
    let growth = resting[ROUNDS] - resting[0];
    Ok(Figure::at_most(format!("{count}: memory grown by 900 foreign Secrets of 1 MB"), "MiB", growth, 4.0))
}
