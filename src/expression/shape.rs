//! How large values are, before there are any: upper bounds, of one and of all that an expression comes to.

use super::references::Use;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes beside its text that one value takes.
pub(super) const VALUE: u64 = 16;
/// Bytes of a number, as JSON or in memory.
pub(super) const NUMBER: u64 = 24;
/// Bytes that are copied for one unit of work.
pub(super) const COPIED: u64 = 64;
/// Work for a list, beside its elements.
pub(super) const LIST: u64 = 3;
/// Work for an object, beside its members.
pub(super) const OBJECT: u64 = 6;
/// Fields of an object that are told apart by their names.
const MOST_NAMED: usize = 64;
/// Shapes that one variable is told apart into.
const MOST_SHAPES: usize = 2000;
/// Lists and objects within each other; a reader of JSON gives up at 128.
const DEEPEST: usize = 140;

/// An upper bound of something, for values that an expression came to when it was evaluated more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extent {
    /// Of the largest of them.
    pub(super) each: u64,
    /// Of all of them together. Ten thousand short texts and a long one are not ten thousand long ones.
    pub(super) all: u64,
}

impl Extent {
    /// The same for each of so many.
    pub(super) fn constant(each: u64, times: u64) -> Self {
        Self { each, all: each.saturating_mul(times) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { each: self.each.saturating_add(other.each), all: self.all.saturating_add(other.all) }
    }

    pub(super) fn scaled(self, factor: u64) -> Self {
        Self { each: self.each.saturating_mul(factor), all: self.all.saturating_mul(factor) }
    }

    /// Of values that are some of these and some of those.
    pub(super) fn either(self, other: Self) -> Self {
        Self { each: self.each.max(other.each), all: self.all.saturating_add(other.all) }
    }

    fn note(&mut self, one: u64) {
        self.each = self.each.max(one);
        self.all = self.all.saturating_add(one);
    }
}

/// What is known of values that an expression comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Work to copy one, to walk through it, or to drop it.
    pub(super) work: Extent,
    /// Bytes, as JSON or in memory.
    pub(super) size: Extent,
    /// Elements or members.
    pub(super) count: Extent,
    /// Bytes of each key.
    pub(super) keys: Extent,
    pub(super) named: BTreeMap<Arc<str>, Part>,
    /// Members that are not told apart.
    pub(super) rest: Option<Part>,
    pub(super) element: Option<Part>,
    /// Nothing is known of what is in them but that it is no larger than they are.
    pub(super) opaque: bool,
    /// One may be a text, or bytes.
    pub(super) text: bool,
    /// One may be a number with a fraction.
    pub(super) fraction: bool,
    /// One may be an optional value.
    pub(super) optional: bool,
}

/// A shape, seen from where its values are used again: for each time that they came about, `repeat` times, and no more than
/// `times` altogether.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) shape: Arc<Shape>,
    pub(super) repeat: u64,
    pub(super) times: u64,
}

impl From<Shape> for Part {
    fn from(shape: Shape) -> Self {
        Self { shape: Arc::new(shape), repeat: 1, times: u64::MAX }
    }
}

impl Part {
    /// The bound of so many evaluations.
    pub(super) fn at(&self, extent: Extent, times: u64) -> Extent {
        let each = extent.each.saturating_mul(self.times.min(times));
        Extent { each: extent.each, all: extent.all.saturating_mul(self.repeat).min(each) }
    }

    /// Used again, so often for each time.
    pub(super) fn repeated(&self, factor: u64) -> Self {
        let (repeat, times) = (self.repeat.saturating_mul(factor), self.times.saturating_mul(factor));
        Self { shape: self.shape.clone(), repeat, times }
    }

    /// A part of this one's values.
    pub(super) fn child(&self, child: &Self) -> Self {
        child.repeated(self.repeat)
    }
}

impl Shape {
    /// Of values that nothing is in, and no text.
    pub(super) fn scalar(times: u64) -> Self {
        Self { work: Extent::constant(1, times), size: Extent::constant(NUMBER, times), ..Self::default() }
    }

    /// Of texts of this size.
    pub(super) fn texts(size: Extent, times: u64) -> Self {
        let copied = Extent { each: size.each / COPIED, all: size.all / COPIED };
        Self { work: copied.plus(Extent::constant(1, times)), size, text: true, ..Self::default() }
    }

    /// Of values that may be anything of this work and size.
    pub(super) fn opaque(work: Extent, size: Extent) -> Self {
        Self { work, size, opaque: true, ..Self::default() }
    }

    /// How many elements or members there are. There are no more in anything within than there is work in all of it.
    pub(super) fn counts(&self) -> Extent {
        if self.opaque { self.work } else { self.count }
    }

    /// Whether one may be a text.
    pub(super) fn is_text(&self) -> bool {
        self.text || self.opaque
    }

    /// Whether one may have a fraction.
    pub(super) fn is_fraction(&self) -> bool {
        self.fraction || self.opaque
    }
}

/// Bytes of a text as JSON, and of its value.
pub(super) fn text_size(text: &str) -> u64 {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<u64>() + VALUE
}

/// A value is nested deeper, or larger, than we go through.
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge;

/// The shape of what is used of a value, unless that takes more work than there is.
pub(super) fn measured(value: &Value, used: &Use, most: u64) -> Result<Shape, TooLarge> {
    let mut shape = Shape::default();
    Measure { shapes: MOST_SHAPES, work: most }.note(Some(&mut shape), value, used, 0)?;
    Ok(shape)
}

/// The shape of an object of members that are measured already.
pub(super) fn composed(members: Vec<(&str, Shape)>) -> Shape {
    let mut shape = Shape { work: Extent::constant(OBJECT, 1), size: Extent::constant(VALUE, 1), ..Shape::default() };
    for (name, member) in members {
        let key = text_size(name);
        shape.work = shape.work.plus(member.work).plus(Extent::constant(member_work(key), 1));
        shape.size = shape.size.plus(member.size).plus(Extent::constant(key, 1));
        shape.count = shape.count.plus(Extent::constant(1, 1));
        shape.keys = Extent { each: shape.keys.each.max(key), all: shape.keys.all.saturating_add(key) };
        shape.named.insert(name.into(), member.into());
    }
    shape
}

/// Work for a member of an object, beside its value: its key is copied and hashed.
pub(super) fn member_work(key: u64) -> u64 {
    5 + key / COPIED
}

struct Measure {
    shapes: usize,
    work: u64,
}

impl Measure {
    /// Notes one more value of a shape, if there is one to note it in; its work and size.
    fn note(&mut self, mut shape: Option<&mut Shape>, value: &Value, used: &Use, depth: usize) -> Result<(u64, u64), TooLarge> {
        let all = Use { whole: true, ..Use::default() };
        let (mut work, mut size, mut count) = (1, NUMBER, 0);
        match value {
            _ if depth > DEEPEST => return Err(TooLarge),
            Value::Array(elements) if used.whole => {
                (work, size, count) = (LIST, VALUE, elements.len() as u64);
                for element in elements {
                    let inner = shape.as_deref_mut().and_then(|shape| self.element(shape));
                    let (more_work, more_size) = self.note(inner, element, &all, depth + 1)?;
                    (work, size) = (work + more_work, size + more_size);
                }
            }
            Value::Object(members) => {
                (work, size) = (OBJECT, VALUE);
                for (key, value) in members {
                    let Some(used) = (if used.whole { Some(&all) } else { used.fields.get(key) }) else { continue };
                    let bytes = text_size(key);
                    let inner = shape.as_deref_mut().and_then(|shape| {
                        shape.keys.note(bytes);
                        self.member(shape, key)
                    });
                    let (more_work, more_size) = self.note(inner, value, used, depth + 1)?;
                    (work, size, count) = (work + more_work + member_work(bytes), size + more_size + bytes, count + 1);
                }
            }
            // As it is converted: all of it, if it is used by fields that it does not have.
            _ if !used.whole && !used.fields.is_empty() => return self.note(shape, value, &all, depth),
            Value::String(text) => {
                size = text_size(text);
                work += size / COPIED;
            }
            _ => {}
        }
        self.work = self.work.checked_sub(work.min(4)).ok_or(TooLarge)?;
        if let Some(shape) = shape {
            shape.work.note(work);
            shape.size.note(size);
            shape.count.note(count);
            shape.text |= value.is_string();
            shape.fraction |= value.is_f64();
        }
        Ok((work, size))
    }

    /// Where elements are noted.
    fn element<'s>(&mut self, shape: &'s mut Shape) -> Option<&'s mut Shape> {
        if shape.element.is_none() {
            shape.element = self.another(&mut shape.opaque);
        }
        noted(shape.opaque, shape.element.as_mut())
    }

    /// Where members of this name are noted.
    fn member<'s>(&mut self, shape: &'s mut Shape, name: &str) -> Option<&'s mut Shape> {
        if !shape.named.contains_key(name) && shape.named.len() < MOST_NAMED {
            if let Some(part) = self.another(&mut shape.opaque) {
                shape.named.insert(name.into(), part);
            }
        } else if !shape.named.contains_key(name) && shape.rest.is_none() {
            shape.rest = self.another(&mut shape.opaque);
        }
        noted(shape.opaque, shape.named.get_mut(name).or(shape.rest.as_mut()))
    }

    /// One more shape to note values in. Where there would be too many, nothing more is told apart.
    fn another(&mut self, opaque: &mut bool) -> Option<Part> {
        self.shapes = self.shapes.saturating_sub(1);
        *opaque |= self.shapes == 0;
        (!*opaque).then(|| Shape::default().into())
    }
}

fn noted(opaque: bool, part: Option<&mut Part>) -> Option<&mut Shape> {
    part.filter(|_| !opaque).map(|part| Arc::make_mut(&mut part.shape))
}
