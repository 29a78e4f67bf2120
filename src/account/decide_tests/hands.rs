//! What each step does in the world of the tests.

use super::person::Answer;
use super::world::*;
use crate::account::health::Checked;
use crate::account::seen::tests::at;
use crate::account::{AttemptOutcome, Liveness, Next, Outcome, Polled, Redemption, Restarted, StateView, notices};
use crate::oauth::{DPOP, Ending, Endpoint, Endpoints, Expiry, FaultKind, GrantRequest, Introspection, Reply, Sensitive, Token};
use crate::world::key_pair;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    pub fn act(&mut self, next: Next) -> Outcome {
        match next {
            Next::ReadTokenSecret(_) => Outcome::TokenSecretRead(self.token_secret()),
            Next::ReadInputs(_) => Outcome::InputsRead(self.inputs()),
            Next::ReadAll(_) => Outcome::AllRead(self.token_secret(), self.inputs()),
            Next::FindEndpoint { .. } => Outcome::EndpointsFound(Ok(Endpoints::default()
                .with(Endpoint::Token, "https://login.example.com/token".parse().unwrap())
                .with(Endpoint::DeviceAuthorization, "https://login.example.com/device".parse().unwrap())
                .with(Endpoint::Registration, "https://login.example.com/register".parse().unwrap())
                .or(self.discovered.clone()))),
            Next::MakeKey(algorithm) => Outcome::KeyMade(key_pair::make(algorithm)),
            Next::Register { .. } => Outcome::Registered(self.person.register(self.now)),
            Next::Record { state, over } => match self.store(&state, over.as_ref()) {
                Some(version) => Outcome::Recorded { version, state },
                None => Outcome::KeepConflicted,
            },
            Next::BeginDevice { .. } => Outcome::DeviceBegun(self.person.begin(self.now)),
            Next::ShowCode(_) => {
                self.person.shown += 1;
                Outcome::CodeShown
            }
            Next::Poll { request, armed, interval, .. } => {
                assert!(self.person.polled.is_none_or(|polled| polled.next <= self.now), "polled too soon");
                let GrantRequest::DeviceCode(code) = &request.grant else { panic!("{request:?}") };
                self.person.polls += 1;
                let slower = self.person.polled.map_or(0, |polled| polled.slower);
                let later = Polled { next: self.now + SignedDuration::from_secs(interval + slower), slower };
                let ending = match self.person.answer {
                    Answer::None => {
                        self.person.polled = Some(later);
                        return Outcome::Polled(later);
                    }
                    Answer::Yes => {
                        (self.login.live, self.login.bound) = (Some(code.expose().to_owned()), None);
                        self.proves(&request, &armed);
                        self.login.post(code.expose())
                    }
                    Answer::No => Ending::Replied(Reply {
                        status: 400,
                        retry_after: None,
                        dpop_nonce: None,
                        body: br#"{"error":"access_denied"}"#.to_vec(),
                    }),
                };
                self.person.polled = Some(later);
                let intent = self.person.intent(&armed, self.passes, self.now);
                let (sent, finished) = (self.now, self.now);
                Outcome::Spent(Redemption { armed, intent, sent, finished, ending, secrets: vec![], journalled: true })
            }
            Next::ReadDeposit => Outcome::DepositRead(self.person.deposit.clone()),
            Next::ForgetDeposit(_) => {
                self.person.deposit = None;
                Outcome::DepositForgotten
            }
            Next::MintSubjectToken(_) => Outcome::SubjectTokenMinted(self.minted.clone()),
            Next::Fail { trigger, fault } => Outcome::Failed(AttemptOutcome {
                trigger,
                started: self.now,
                finished: self.now,
                fault: Some(fault),
                issued: false,
            }),
            Next::Heed { .. } => Outcome::Heeded,
            Next::ReadState => Outcome::StateRead(match &self.state {
                None => StateView::Absent,
                Some(_) if self.state_unreadable => {
                    StateView::Unreadable { fault: fault(FaultKind::StateUnreadable), version: self.version() }
                }
                Some((_, state)) => StateView::Stored { version: self.version().unwrap(), state: state.clone() },
            }),
            Next::ReadJournal { intent, armed } => {
                let found = self.journal.get(&intent.id).cloned();
                Outcome::JournalRead(found.map(|(reply, sent, finished)| Redemption {
                    armed,
                    intent,
                    sent,
                    finished,
                    ending: Ending::Replied(reply),
                    secrets: vec![],
                    journalled: true,
                }))
            }
            Next::FindDuplicate { .. } => Outcome::DuplicateSought(self.duplicate.clone()),
            Next::Introspect { .. } => {
                self.probes += 1;
                Outcome::Introspected(match &self.probe {
                    Liveness::Alive => Ok(Introspection { active: true, expires: Some(at(7200)) }),
                    Liveness::Dead => Ok(Introspection { active: false, expires: None }),
                    Liveness::Unclear(fault) => Err(fault.clone()),
                })
            }
            Next::CheckHealth { url, generation, dpop_key, .. } => {
                assert_eq!(dpop_key.as_ref(), self.published_key(), "asked by another key than the token's");
                self.health_checks += 1;
                let checked = Checked { at: self.now, generation, said: Some((url, self.verdict.clone())) };
                self.checked = Some(checked.clone());
                Outcome::HealthChecked(checked)
            }
            Next::Probe { dpop_key, .. } => {
                assert_eq!(dpop_key.as_ref(), self.published_key(), "asked by another key than the token's");
                self.probes += 1;
                Outcome::Probed(self.probe.clone())
            }
            Next::Arm { state, over } => {
                self.unposted = state.intent.as_ref().map(|intent| intent.id.clone());
                let began = Duration::from_secs(1000);
                match self.store(&state, over.as_ref()) {
                    Some(version) => Outcome::Armed { version, state, began },
                    None => Outcome::ArmUnclear { began },
                }
            }
            Next::Spend { request, intent, armed, began, .. } => {
                assert_eq!(began, Duration::from_secs(1000));
                let (GrantRequest::RefreshToken(token) | GrantRequest::AuthorizationCode { code: token, .. }) = &request.grant
                else {
                    panic!("{request:?}")
                };
                self.judge_post(token.expose(), &armed, &intent);
                self.proves(&request, &armed);
                self.requests += 1;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let ending = if self.held_up >= 10 {
                    Ending::NotSent(fault(FaultKind::HeldUp))
                } else {
                    self.unposted = None;
                    self.login.post(token.expose())
                };
                let looked_at = match &ending {
                    Ending::NotSent(_) => false,
                    Ending::Lost(_) => true,
                    Ending::Replied(reply) => [200, 400, 500, 502].contains(&reply.status),
                };
                if looked_at && self.login.rotates {
                    self.doubtful.insert(token.expose().to_owned());
                }
                if matches!(ending, Ending::NotSent(_)) {
                    self.unposted = Some(intent.id.clone());
                }
                let secrets = request.secrets();
                Outcome::Spent(Redemption { armed, intent, sent, finished: self.now, ending, secrets, journalled: false })
            }
            Next::Journal { intent, reply, sent, finished } => {
                if self.journals {
                    self.journal.insert(intent.id, (reply, sent, finished));
                }
                Outcome::Journalled
            }
            Next::GiveWay => Outcome::KeepConflicted,
            Next::AnswerDemand { state, over } => {
                Outcome::DemandAnswered(self.store(&state, Some(&over)).map(|version| (version, state)))
            }
            Next::Keep { state, over, settlement } => match self.store(&state, over.as_ref()) {
                Some(version) => {
                    self.unposted = None;
                    self.dead.extend(state.tombstones.iter().cloned());
                    state.settled.as_ref().map(|id| self.journal.remove(id));
                    Outcome::Kept { version, state, settlement }
                }
                None => Outcome::KeepConflicted,
            },
            Next::Redeem { trigger, request, .. } => {
                self.requests += 1;
                let bound = request.dpop_key.is_some() && self.login.binds;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let result = self.provider.clone().map(|lifetime| Token {
                    access_token: Sensitive::new(format!("token-{}", self.requests)),
                    token_type: if bound { DPOP } else { "Bearer" }.into(),
                    scopes: self.granted.clone(),
                    expiry: Expiry { at: sent + SignedDuration::from_secs(lifetime), source: self.source },
                    refresh_token: None,
                    refresh_token_expires: None,
                    refresh_at: None,
                    earliest_refresh_at: None,
                    subject: None,
                    extra: BTreeMap::new(),
                });
                Outcome::Redeemed { trigger, sent, finished: self.now, result }
            }
            Next::Publish { record, contents, over, .. } => {
                self.offered += 1;
                if let Some(fault) = &self.write_refused {
                    return Outcome::PublishRefused { at: self.now, fault: fault.clone() };
                }
                if self.conflicts > 0 {
                    self.conflicts -= 1;
                    return Outcome::PublishConflicted;
                }
                if over != self.secret.as_ref().map(|(version, _)| held(*version)) {
                    return Outcome::PublishConflicted;
                }
                let token = &record.access_token;
                let healed = self.secret.as_ref().is_some_and(|(_, there)| there.data.get("access_token") == Some(token));
                self.heals.extend(healed.then_some(self.now));
                self.writes += 1;
                self.versions += 1;
                let version = self.versions;
                self.secret = Some((version, contents.clone()));
                Outcome::Published { record, contents, held: held(version) }
            }
            Next::Restart { generation, .. } => {
                self.restarts.push(generation);
                let failure = self.restart_refused.then(|| "Not restarted with the new token: forbidden.".to_owned());
                Outcome::Restarted(Restarted { at: self.now, generation, failure })
            }
            Next::Withhold(fault) => Outcome::PublishRefused { at: self.now, fault },
            Next::Prune(stray) => {
                self.writes += 1;
                self.stray = None;
                Outcome::Pruned(stray)
            }
            Next::Say(status) => {
                self.status_writes += 1;
                self.told.extend(notices(&self.status, &status).into_iter().map(|notice| notice.reason));
                self.status = status.clone();
                Outcome::Said(status)
            }
            Next::TakeTurn(_) | Next::Rest(_) => unreachable!("no steps"),
        }
    }
}
