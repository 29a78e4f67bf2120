//! The most that a function could cost, and what it gives.

use super::bound::Bound;
use super::budget::Excess;
use super::shape::{COPIED, Extent, LIST, Part, Shape, VALUE};
use super::{language, syntax};
use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue};

/// Bytes that `string` makes of a number with a fraction: the smallest has 324 zeros.
const LONGEST_FRACTION: u64 = 400;
/// Bytes that it makes of anything else that is no text.
const LONGEST_SCALAR: u64 = 64;
/// Bytes that one state of a compiled pattern takes at least.
const STATE: u64 = 32;
/// Work to go through a text byte by byte, for each unit that copying it takes.
const READING: u64 = 6;

/// How much a function costs, and how large what it gives is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Reads its arguments, gives a number without a fraction, or a truth.
    Scalar,
    /// Reads its arguments, gives a number.
    Double,
    /// Gives something like its first argument, and no larger.
    Alike,
    /// Gives a text so many times larger.
    Grown(u64),
    /// Puts its argument into an optional value.
    Optional,
    /// Gives one of its arguments.
    Either,
    Size,
    String,
    Match,
    Find,
    Join,
    Replace,
    Split,
    Slice,
    Flatten,
    Distinct,
    Sort,
    Decode,
}

impl Bound<'_> {
    /// What a function gives; what it costs is spent.
    pub(super) fn apply(&mut self, rule: Rule, parts: &[Part], written: &[&IdedExpr]) -> Result<Part, Excess> {
        let Some(first) = parts.first() else { return self.optional(self.scalar()) };
        if !matches!(rule, Rule::Size | Rule::Slice) {
            let read = parts.iter().fold(0_u64, |read, part| read.saturating_add(self.work(part)));
            self.spend(read.saturating_mul(READING))?;
        }
        match rule {
            Rule::Scalar => Ok(self.scalar()),
            Rule::Double => Ok(Shape { fraction: true, ..Shape::scalar(self.times) }.into()),
            Rule::Alike => Ok(Part { shape: Shape { optional: false, ..first.shape.as_ref().clone() }.into(), ..first.clone() }),
            Rule::Grown(factor) => self.text(self.size(first).scaled(factor)),
            Rule::Optional => self.optional(first.clone()),
            Rule::Either => self.either(first, parts.get(1).unwrap_or(first)),
            Rule::Size => {
                // Elements need not be counted; characters do.
                let read = if first.shape.is_text() { self.work(first).saturating_mul(READING) } else { 0 };
                self.spend(read)?;
                Ok(self.scalar())
            }
            Rule::String => {
                let least = if first.shape.is_fraction() { LONGEST_FRACTION } else { LONGEST_SCALAR };
                let size = self.size(first);
                let least = Extent::constant(least, self.times);
                self.text(Extent { each: size.each.max(least.each), all: size.all.saturating_add(least.all) })
            }
            Rule::Match => self.matched(first, &parts[1], written[1]),
            Rule::Find => {
                let work = self.bytes(first).all.saturating_mul(self.bytes(&parts[1]).each) / COPIED;
                self.spend(work)?;
                Ok(self.scalar())
            }
            Rule::Join => self.joined(first, parts.get(1)),
            Rule::Replace => {
                let replaced = self.pieces(first, written[1]);
                self.spend(replaced.all / 2)?;
                let bytes = self.bytes(&parts[2]);
                let put = Extent {
                    each: replaced.each.saturating_mul(bytes.each),
                    all: replaced.all.saturating_mul(bytes.each).min(bytes.all.saturating_mul(replaced.each)),
                };
                self.text(self.size(first).plus(put))
            }
            Rule::Split => self.split(first, written[1]),
            Rule::Slice => self.sliced(first, written),
            Rule::Flatten => self.flattened(first),
            Rule::Distinct => {
                let counts = self.at(first, first.shape.counts());
                let pairs = counts.each.saturating_mul(counts.all.saturating_add(self.work(first)));
                self.spend(pairs)?;
                Ok(first.clone())
            }
            Rule::Sort => {
                let counts = self.at(first, first.shape.counts());
                let rounds = u64::from(u64::BITS - counts.each.leading_zeros()) + 1;
                self.spend(counts.all.saturating_mul(2).saturating_add(self.work(first)).saturating_mul(rounds))?;
                Ok(first.clone())
            }
            Rule::Decode => self.decoded(first),
        }
    }

    fn size(&self, part: &Part) -> Extent {
        self.at(part, part.shape.size)
    }

    /// Of texts, without what each takes beside.
    fn bytes(&self, part: &Part) -> Extent {
        let size = self.size(part);
        let each = size.each.saturating_sub(VALUE);
        Extent { each, all: size.all.min(each.saturating_mul(self.times)) }
    }

    fn text(&mut self, size: Extent) -> Result<Part, Excess> {
        self.made(Shape::texts(size.plus(Extent::constant(VALUE, self.times)), self.times))
    }

    /// A pattern is compiled each time, and each byte may take a step in each of its states.
    fn matched(&mut self, text: &Part, pattern: &Part, written: &IdedExpr) -> Result<Part, Excess> {
        let states = syntax::text(written).map_or(language::LARGEST_PATTERN, language::pattern_size) as u64 / STATE;
        let compiled = Extent::constant(states.saturating_mul(4).saturating_add(20), self.times).all;
        let read = self.bytes(text).all.saturating_mul(states) / 4;
        let pattern = self.bytes(pattern).all;
        self.spend(compiled.saturating_add(read).saturating_add(pattern))?;
        Ok(self.scalar())
    }

    fn joined(&mut self, list: &Part, separator: Option<&Part>) -> Result<Part, Excess> {
        let counts = self.at(list, list.shape.counts());
        let separators = separator.map_or(0, |separator| self.bytes(separator).each);
        self.text(self.size(list).plus(counts.scaled(separators)))
    }

    /// How many pieces there are between occurrences of a text.
    fn pieces(&self, text: &Part, separator: &IdedExpr) -> Extent {
        let width = syntax::text(separator).map_or(1, |separator| separator.len().max(1) as u64);
        let bytes = self.bytes(text);
        Extent { each: bytes.each / width, all: bytes.all / width }.plus(Extent::constant(1, self.times))
    }

    fn split(&mut self, text: &Part, separator: &IdedExpr) -> Result<Part, Excess> {
        let pieces = self.pieces(text, separator);
        let (size, each) = (self.bytes(text), pieces.scaled(VALUE));
        let piece = Extent { each: size.each.saturating_add(VALUE), all: size.all.saturating_add(each.all) };
        let element = Shape::texts(piece, pieces.all);
        let list = Shape {
            work: size.plus(pieces).plus(Extent::constant(LIST, self.times)),
            size: size.plus(each).plus(Extent::constant(VALUE, self.times)),
            count: pieces,
            element: Some(element.into()),
            ..Shape::default()
        };
        self.made(list)
    }

    /// Few elements, where the source says how many.
    fn sliced(&mut self, list: &Part, written: &[&IdedExpr]) -> Result<Part, Excess> {
        // It is gone through, but only what is taken is copied.
        self.spend(self.at(list, list.shape.counts()).all)?;
        let (Some(from), Some(to), Some(element)) = (number(written.get(1)), number(written.get(2)), &list.shape.element) else {
            self.spend(self.work(list))?;
            return Ok(list.clone());
        };
        let most = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        let of_most = |own: u64, whole: Extent, element: u64| {
            let each = element.saturating_mul(most).saturating_add(own).min(whole.each);
            Extent { each, all: whole.all.min(each.saturating_mul(self.times)) }
        };
        let shape = Shape {
            work: of_most(LIST, self.at(list, list.shape.work), element.shape.work.each),
            size: of_most(VALUE, self.at(list, list.shape.size), element.shape.size.each),
            count: of_most(0, self.at(list, list.shape.count), 1),
            element: Some(list.child(element)),
            ..Shape::default()
        };
        self.made(shape)
    }

    /// A list of what is in its lists, and of what is in it and no list.
    fn flattened(&mut self, list: &Part) -> Result<Part, Excess> {
        let Some(element) = list.shape.element.as_ref().filter(|_| !list.shape.opaque) else { return Ok(list.clone()) };
        let element = list.child(element);
        let own = self.at(list, list.shape.count);
        let within = element.at(element.shape.counts(), own.all);
        let count = Extent {
            each: own.each.saturating_mul(within.each).min(within.all).saturating_add(own.each),
            all: within.all.saturating_add(own.all),
        };
        let inner = match &element.shape.element {
            _ if element.shape.opaque => element.clone(),
            Some(inner) => {
                let inner = element.child(inner);
                self.either_of(&inner, &element, u64::MAX)?
            }
            None => element.clone(),
        };
        let (work, size) = (self.at(list, list.shape.work), self.size(list));
        self.made(Shape { work, size, count, element: Some(inner), ..Shape::default() })
    }

    /// The least JSON for a value is two bytes, as in `[1,1,1]`, and three for an object, as in `[{},{}]`.
    fn decoded(&mut self, text: &Part) -> Result<Part, Excess> {
        let size = self.size(text);
        self.made(Shape::opaque(size.scaled(2), size.scaled(13)))
    }
}

/// A number that stands in the source.
fn number(written: Option<&&IdedExpr>) -> Option<i64> {
    match written.map(|expression| &expression.expr) {
        Some(Expr::Literal(LiteralValue::Int(number))) => Some(*number.inner()),
        _ => None,
    }
}
