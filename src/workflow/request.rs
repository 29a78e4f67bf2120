//! What a step asks, before it is sent: composed of the definition and of what the run knows by then.

use super::definition::DefinitionError;
use super::failure::Failure;
use super::graph::Graph;
use crate::api::{AccountReference, CABundleReference, CozeDialect, CozeMode, CozeRun, HTTPRequest, Method, RunReason};
use crate::expression::{Address, Condition, ExpressionError, Scope, Tree};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// Header by which a server can tell a repetition.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where an expression stands: what is there when it is evaluated.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Steps of the workflow.
    pub graph: &'a Graph,
    /// Step before which it is evaluated; none where all have ended.
    pub before: Option<usize>,
    /// Variables that there are.
    pub variables: &'static [&'static str],
}

/// An HTTP request whose expressions are compiled.
#[derive(Debug)]
pub struct RequestPlan {
    /// Method.
    pub method: Method,
    url: Address,
    headers: Vec<(HeaderName, Tree)>,
    body: Option<Tree>,
    /// Account whose token is sent along.
    pub account: Option<String>,
    ca: Option<CABundleReference>,
    timeout: Duration,
    most: usize,
    /// Whether the answer is a success.
    pub success_when: Option<Condition>,
}

/// A run at Coze whose expressions are compiled.
#[derive(Debug)]
pub struct CozePlan {
    /// Id of the workflow.
    pub workflow_id: String,
    /// Which Coze.
    pub dialect: CozeDialect,
    /// How it is run.
    pub mode: CozeMode,
    /// Where; none: as the account's preset says.
    pub base_url: Option<String>,
    /// Account whose token is sent along.
    pub account: String,
    /// Between two questions how it goes.
    pub interval: Duration,
    /// How long it may take.
    pub patience: Duration,
    pub(super) parameters: Option<Tree>,
    pub(super) ext: Option<Tree>,
    pub(super) bot_id: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) ca: Option<CABundleReference>,
    pub(super) timeout: Duration,
    pub(super) most: usize,
}

/// A request that lacks nothing but its token.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Address; https.
    pub url: Url,
    /// Headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; empty where there is none.
    pub body: Vec<u8>,
    /// Account whose token is sent along.
    pub account: Option<String>,
    /// Certificates trusted in place of the public ones.
    pub ca: Option<CABundleReference>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Bytes of the answer that are read at most.
    pub most: usize,
}

impl RequestPlan {
    /// Understands a request. `composed` is where its expressions are evaluated, `judged` where that on its answer is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(
        request: &HTTPRequest,
        place: &str,
        default: Option<&AccountReference>,
        composed: &Place<'_>,
        judged: &Place<'_>,
    ) -> Result<Self, DefinitionError> {
        let at = |member: &str| format!("{place}.{member}");
        let url = Address::parse(&request.url).map_err(|error| DefinitionError::at(&at("url"), error))?;
        composed.admits(&at("url"), url.references())?;
        let headers = request.headers.iter().map(|header| {
            let here = at(&format!("headers[{}]", header.name));
            let name = HeaderName::try_from(&header.name).map_err(|_| DefinitionError::at(&here, "this is no header's name"))?;
            Ok((name, composed.tree(&here, &Value::String(header.value.clone()))?))
        });
        let success_when = request.success_when.as_ref();
        Ok(Self {
            method: request.method,
            url,
            headers: headers.collect::<Result<_, DefinitionError>>()?,
            body: request.body.as_ref().map(|body| composed.tree(&at("body"), body)).transpose()?,
            account: request.account_ref.as_ref().or(default).map(|account| account.name.clone()),
            ca: request.ca_bundle_ref.clone(),
            timeout: seconds(request.timeout_seconds),
            most: usize::try_from(request.max_response_bytes).unwrap_or(1),
            success_when: success_when.map(|source| judged.condition(&at("successWhen"), source)).transpose()?,
        })
    }

    /// The request for what is known now.
    ///
    /// # Errors
    /// An expression that cannot be evaluated, or what it makes is no address, header or body.
    pub fn compose(&self, scope: &Scope, key: &str) -> Result<Call, Failure> {
        let url = self.url.render(scope).map_err(|error| unusable("url", &error))?;
        let url = address(&url)?;
        let mut headers = vec![];
        let mut typed = false;
        for (name, value) in &self.headers {
            let text = match value.evaluate(scope).map_err(|error| unusable(name.as_str(), &error))? {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                _ => return Err(invalid(format!("The header {name} is no text, number or truth value."))),
            };
            let value = HeaderValue::from_str(&text);
            let value =
                value.map_err(|_| invalid(format!("The header {name} would hold what no header may (RFC 9110 section 5.5).")))?;
            typed |= name == http::header::CONTENT_TYPE;
            headers.push((name.clone(), value));
        }
        let body = match &self.body {
            None => vec![],
            Some(body) => match body.evaluate(scope).map_err(|error| unusable("body", &error))? {
                Value::String(text) => text.into_bytes(),
                json => {
                    if !typed {
                        headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
                    }
                    json.to_string().into_bytes()
                }
            },
        };
        push_key(&mut headers, key);
        Ok(Call {
            method: self.method,
            url,
            headers,
            body,
            account: self.account.clone(),
            ca: self.ca.clone(),
            timeout: self.timeout,
            most: self.most,
        })
    }

    /// What its expressions refer to, before and after.
    pub fn references(&self) -> impl Iterator<Item = &crate::expression::References> {
        let headers = self.headers.iter().map(|(_, value)| value.references());
        let conditions = self.success_when.iter().map(Condition::references);
        std::iter::once(self.url.references()).chain(headers).chain(self.body.iter().map(Tree::references)).chain(conditions)
    }
}

impl CozePlan {
    /// Understands a run at Coze.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(
        coze: &CozeRun,
        place: &str,
        default: Option<&AccountReference>,
        composed: &Place<'_>,
    ) -> Result<Self, DefinitionError> {
        let at = |member: &str| format!("{place}.{member}");
        let account = coze.account_ref.as_ref().or(default).map(|account| account.name.clone());
        let account = account
            .ok_or_else(|| DefinitionError::at(&at("accountRef"), "Coze wants a token: name an account here or in defaults"))?;
        if coze.dialect == CozeDialect::CozeStudio && coze.base_url.is_none() {
            return Err(DefinitionError::at(&at("baseURL"), "a Coze Studio of your own has an address of its own: set it here"));
        }
        let tree =
            |source: &Option<Value>, member: &str| source.as_ref().map(|source| composed.tree(&at(member), source)).transpose();
        Ok(Self {
            workflow_id: coze.workflow_id.clone(),
            dialect: coze.dialect,
            mode: coze.mode,
            base_url: coze.base_url.clone(),
            account,
            interval: seconds(coze.poll.interval_seconds),
            patience: seconds(coze.poll.timeout_seconds),
            parameters: tree(&coze.parameters, "parameters")?,
            ext: tree(&coze.ext, "ext")?,
            bot_id: coze.bot_id.clone(),
            app_id: coze.app_id.clone(),
            ca: coze.ca_bundle_ref.clone(),
            timeout: seconds(coze.timeout_seconds),
            most: usize::try_from(coze.max_response_bytes).unwrap_or(1),
        })
    }

    /// What its expressions refer to.
    pub fn references(&self) -> impl Iterator<Item = &crate::expression::References> {
        [&self.parameters, &self.ext].into_iter().flatten().map(Tree::references)
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1))
}

/// An address that may be asked at all; where it may lead is judged when it is dialled.
pub(super) fn address(url: &str) -> Result<Url, Failure> {
    let url = Url::parse(url).map_err(|error| invalid(format!("The address is none: {error}.")))?;
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("The address must begin with https:// and a host.".to_owned()));
    }
    Ok(url)
}

pub(super) fn push_key(headers: &mut Vec<(HeaderName, HeaderValue)>, key: &str) {
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.push((HeaderName::from_static(IDEMPOTENCY_KEY), key));
    }
}

pub(super) fn unusable(what: &str, error: &ExpressionError) -> Failure {
    invalid(format!("{what}: {error}"))
}

pub(super) fn invalid(message: String) -> Failure {
    Failure::new(RunReason::InvalidDefinition, message)
}
