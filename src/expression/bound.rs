//! The most that an expression could cost with the values that there are, before it is evaluated: the language itself has no
//! limit, and loops within loops multiply.

use super::budget::{Budget, Excess, LARGEST};
use super::language;
use super::shape::{Extent, LIST, OBJECT, Part, Shape, VALUE, member_work, text_size};
use super::syntax::{self, Loop};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, operators};
use std::collections::BTreeMap;

/// Work to evaluate anything, beside what it does.
const NODE: u64 = 2;
/// Work of a call, which looks a function up and describes its arguments for an error that may not come.
const CALL: u64 = 5;
/// Work of one turn of a loop.
const TURN: u64 = 4;

/// What is known where an expression stands.
pub(super) struct Bound<'a> {
    pub(super) budget: &'a mut Budget,
    variables: &'a BTreeMap<String, Part>,
    loops: Vec<Turn<'a>>,
    /// How often what stands here is evaluated.
    pub(super) times: u64,
}

/// A loop around where an expression stands.
struct Turn<'a> {
    variable: &'a str,
    item: Part,
    /// Turns each time that it is begun.
    most: u64,
}

/// A bound of what an expression comes to, if evaluating it is within the budget; what it costs is then spent.
pub(super) fn of(expression: &IdedExpr, variables: &BTreeMap<String, Part>, budget: &mut Budget) -> Result<Shape, Excess> {
    let mut bound = Bound { budget, variables, loops: vec![], times: 1 };
    let part = bound.of(expression)?;
    // It is written as JSON.
    let work = bound.work(&part);
    bound.spend(work.saturating_mul(2))?;
    Ok(part.shape.as_ref().clone())
}

impl<'a> Bound<'a> {
    fn of<'e: 'a>(&mut self, expression: &'e IdedExpr) -> Result<Part, Excess> {
        self.spend_each(NODE)?;
        match &expression.expr {
            Expr::Literal(literal) => Ok(self.literal(literal)),
            Expr::Ident(name) => Ok(self.variable(name)),
            Expr::Select(select) => {
                let operand = self.of(&select.operand)?;
                if select.test { Ok(self.scalar()) } else { self.selected(&operand, Some(&select.field)) }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let elements = list.elements.iter().map(|element| self.of(element)).collect::<Result<Vec<_>, _>>()?;
                self.list(elements)
            }
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.repeated(comprehension),
            Expr::Struct(_) | Expr::Unspecified => Ok(self.scalar()),
        }
    }

    fn literal(&self, literal: &LiteralValue) -> Part {
        let size = match literal {
            LiteralValue::String(text) => text_size(text.inner()),
            // A byte of it may become six as text.
            LiteralValue::Bytes(bytes) => VALUE + 6 * bytes.inner().len() as u64,
            LiteralValue::Double(_) => return Shape { fraction: true, ..Shape::scalar(self.times) }.into(),
            _ => return self.scalar(),
        };
        Shape::texts(Extent::constant(size, self.times), self.times).into()
    }

    pub(super) fn scalar(&self) -> Part {
        Shape::scalar(self.times).into()
    }

    /// A loop's variable is the same for the loops within: they repeat it.
    fn variable(&self, name: &str) -> Part {
        let mut repeat = 1_u64;
        for turn in self.loops.iter().rev() {
            if turn.variable == name {
                return turn.item.repeated(repeat);
            }
            repeat = repeat.saturating_mul(turn.most);
        }
        let variable = self.variables.get(name.strip_prefix('.').unwrap_or(name));
        variable.map_or_else(|| self.scalar(), |part| part.repeated(repeat))
    }

    fn call<'e: 'a>(&mut self, call: &'e CallExpr) -> Result<Part, Excess> {
        self.spend_each(CALL)?;
        let (name, target) = syntax::function(call, language::is_function);
        let written = target.into_iter().chain(&call.args).collect::<Vec<_>>();
        let parts = written.iter().map(|argument| self.of(argument)).collect::<Result<Vec<_>, _>>()?;
        match (name.as_str(), parts.as_slice()) {
            (operators::CONDITIONAL, [_, yes, no]) => self.either(yes, no),
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                // A number that is compared with something else copies it, to say that it is none.
                let work = self.work(left).saturating_add(self.work(right));
                self.spend(work)?;
                Ok(self.scalar())
            }
            (operators::IN, [value, container]) => self.contained(value, container),
            (operators::INDEX, [container, index]) => self.indexed(container, index, syntax::text(written[1])),
            (operators::OPT_INDEX | operators::OPT_SELECT, [container, index]) => {
                let found = self.indexed(container, index, syntax::text(written[1]))?;
                self.optional(found)
            }
            (operators::ADD, [left, right]) => self.sum(left, right),
            _ => match language::rule(&name, target.is_some(), parts.len()) {
                Some(rule) => self.apply(rule, &parts, &written),
                None => self.operator(&parts),
            },
        }
    }

    /// An operator that gives a number or a truth. Where it fails, it copies what it was given.
    fn operator(&mut self, parts: &[Part]) -> Result<Part, Excess> {
        for part in parts {
            let work = self.work(part);
            self.spend(work)?;
        }
        let fraction = parts.iter().any(|part| part.shape.is_fraction());
        Ok(Shape { fraction, ..Shape::scalar(self.times) }.into())
    }

    fn contained(&mut self, value: &Part, container: &Part) -> Result<Part, Excess> {
        let (value_work, work) = (self.work(value), self.work(container));
        let compared = if container.shape.element.is_some() || container.shape.opaque {
            let counts = self.at(container, container.shape.counts());
            // As above, for each element.
            counts.all.saturating_add(work).saturating_add(value_work.saturating_mul(counts.each))
        } else {
            0
        };
        self.spend(value_work.saturating_add(compared))?;
        Ok(self.scalar())
    }

    fn indexed(&mut self, container: &Part, index: &Part, name: Option<&str>) -> Result<Part, Excess> {
        let mut work = self.work(index);
        if index.shape.is_fraction() && name.is_none() {
            // A list that is asked for half an element is copied to say so.
            work = work.saturating_add(self.work(container));
        }
        self.spend(work)?;
        self.selected(container, name)
    }

    /// A field of this name, or any element or member.
    fn selected(&mut self, container: &Part, name: Option<&str>) -> Result<Part, Excess> {
        let shape = &container.shape;
        let found = match name {
            _ if shape.opaque => container.clone(),
            Some(name) => match shape.named.get(name).or(shape.rest.as_ref()) {
                Some(member) => container.child(member),
                None => self.scalar(),
            },
            None => self.any(container)?,
        };
        if shape.optional { self.optional(found) } else { Ok(found) }
    }

    fn any(&mut self, container: &Part) -> Result<Part, Excess> {
        let shape = &container.shape;
        let members = shape.named.values().chain(&shape.rest);
        let (work, size) = members
            .clone()
            .fold((0, 0), |(work, size), member| (member.shape.work.each.max(work), member.shape.size.each.max(size)));
        let all = |each, extent| Extent { each, all: self.at(container, extent).all.min(each.saturating_mul(self.times)) };
        let member: Part = Shape::opaque(all(work, shape.work), all(size, shape.size)).into();
        match &shape.element {
            Some(element) if members.count() == 0 => Ok(container.child(element)),
            Some(element) => self.either(&container.child(element), &member),
            None => Ok(member),
        }
    }

    /// The same, copied into an optional value.
    pub(super) fn optional(&mut self, part: Part) -> Result<Part, Excess> {
        let work = self.work(&part);
        self.spend(work)?;
        Ok(Part { shape: Shape { optional: true, ..part.shape.as_ref().clone() }.into(), ..part })
    }

    fn sum(&mut self, left: &Part, right: &Part) -> Result<Part, Excess> {
        let plus = |of: fn(&Shape) -> Extent| self.at(left, of(&left.shape)).plus(self.at(right, of(&right.shape)));
        let mut shape = Shape::texts(plus(|shape| shape.size), self.times);
        shape.work = plus(|shape| shape.work);
        shape.count = plus(Shape::counts);
        shape.opaque = left.shape.opaque || right.shape.opaque;
        shape.fraction = left.shape.fraction || right.shape.fraction;
        // To a list may be added what an object has for keys.
        let elements = |part: &Part| part.shape.element.is_some() || part.shape.keys.each > 0;
        shape.element = match (elements(left), elements(right)) {
            (true, true) => {
                let (left, right) = (self.items(left)?, self.items(right)?);
                Some(self.either_of(&left, &right, u64::MAX)?)
            }
            (true, false) => Some(self.items(left)?),
            (false, true) => Some(self.items(right)?),
            (false, false) => None,
        };
        self.made(shape)
    }

    pub(super) fn list(&mut self, elements: Vec<Part>) -> Result<Part, Excess> {
        let (count, times) = (elements.len() as u64, self.times);
        let mut list = Shape {
            work: Extent::constant(LIST, times),
            size: Extent::constant(VALUE, times),
            count: Extent::constant(count, times),
            ..Shape::default()
        };
        for element in elements {
            list.work = list.work.plus(self.at(&element, element.shape.work));
            list.size = list.size.plus(self.at(&element, element.shape.size));
            let element = self.kept(&element);
            list.element = Some(match list.element {
                Some(others) => self.either_of(&others, &element, u64::MAX)?,
                None => element,
            });
        }
        self.made(list)
    }

    fn map<'e: 'a>(&mut self, map: &'e MapExpr) -> Result<Part, Excess> {
        let times = self.times;
        let mut shape = Shape { work: Extent::constant(OBJECT, times), size: Extent::constant(VALUE, times), ..Shape::default() };
        let pairs = || {
            map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(pair) => Some(pair),
                EntryExpr::StructField(_) => None,
            })
        };
        // A name that may come from elsewhere too stands for nothing.
        let named = pairs().all(|pair| syntax::text(&pair.key).is_some());
        for pair in pairs() {
            let (key, value) = (self.of(&pair.key)?, self.of(&pair.value)?);
            // What can be no key is copied to say so.
            let work = self.work(&key);
            self.spend(work)?;
            let keys = self.at(&key, key.shape.size);
            let hashed =
                Extent { each: member_work(keys.each), all: times.saturating_mul(member_work(0)).saturating_add(keys.all) };
            shape.work = shape.work.plus(hashed).plus(self.at(&value, value.shape.work));
            shape.size = shape.size.plus(keys).plus(self.at(&value, value.shape.size));
            shape.count = shape.count.plus(Extent::constant(1, times));
            shape.keys = shape.keys.either(keys);
            let value = self.kept(&value);
            match syntax::text(&pair.key).filter(|_| named) {
                Some(name) => {
                    let other = shape.named.get(name).cloned();
                    let value = other.map_or(Ok(value.clone()), |other| self.either_of(&other, &value, u64::MAX))?;
                    shape.named.insert(name.into(), value);
                }
                None => {
                    let other = shape.rest.take();
                    shape.rest = Some(other.map_or(Ok(value.clone()), |other| self.either_of(&other, &value, u64::MAX))?);
                }
            }
        }
        self.made(shape)
    }

    fn repeated<'e: 'a>(&mut self, comprehension: &'e ComprehensionExpr) -> Result<Part, Excess> {
        let Some(repeated) = Loop::of(comprehension) else { return Ok(self.scalar()) };
        let range = self.of(repeated.range)?;
        let turns = self.at(&range, range.shape.counts());
        // Each turn takes a copy of an element.
        let copies = self.work(&range);
        self.spend(turns.all.saturating_mul(TURN).saturating_add(copies))?;
        let item = self.items(&range)?;
        let outside = std::mem::replace(&mut self.times, turns.all);
        self.loops.push(Turn { variable: repeated.variable, item, most: turns.each });
        let made = self.turn(&repeated, turns, outside);
        self.loops.pop();
        self.times = outside;
        match made? {
            Some(list) => self.held(list),
            None => Ok(self.scalar()),
        }
    }

    /// One loop's guard, and the list that it makes.
    fn turn<'e: 'a>(&mut self, repeated: &Loop<'e>, turns: Extent, outside: u64) -> Result<Option<Shape>, Excess> {
        if let Some(guard) = repeated.guard {
            self.spend_each(NODE)?;
            self.of(guard)?;
        }
        let Some(item) = repeated.item else { return Ok(None) };
        self.spend_each(2 * NODE)?;
        let item = self.of(item)?;
        let (work, size) = (self.at(&item, item.shape.work), self.at(&item, item.shape.size));
        // It is put into a list of one, and from there into the list.
        self.spend(work.all.saturating_mul(2))?;
        let of_all = |own: u64, extent: Extent| Extent {
            each: turns.each.saturating_mul(extent.each).min(extent.all).saturating_add(own),
            all: own.saturating_mul(outside).saturating_add(extent.all),
        };
        let element = Some(self.kept(&item));
        Ok(Some(Shape { work: of_all(LIST, work), size: of_all(VALUE, size), count: turns, element, ..Shape::default() }))
    }

    /// What a loop goes through: a list's elements, an object's keys.
    fn items(&mut self, range: &Part) -> Result<Part, Excess> {
        let shape = &range.shape;
        if shape.opaque {
            return Ok(range.clone());
        }
        let keys = || Part::from(Shape::texts(keys(range), self.at(range, shape.count).all));
        match &shape.element {
            Some(element) if shape.keys.each == 0 => Ok(range.child(element)),
            Some(element) => {
                let keys = keys();
                self.either_of(&range.child(element), &keys, u64::MAX)
            }
            None => Ok(keys()),
        }
    }

    /// One or the other.
    pub(super) fn either(&mut self, left: &Part, right: &Part) -> Result<Part, Excess> {
        self.either_of(left, right, self.times)
    }

    pub(super) fn either_of(&mut self, left: &Part, right: &Part, times: u64) -> Result<Part, Excess> {
        // There may be as many shapes as values.
        self.spend(NODE)?;
        let either = |of: fn(&Shape) -> Extent| left.at(of(&left.shape), times).either(right.at(of(&right.shape), times));
        let mut shape = Shape { work: either(|shape| shape.work), size: either(|shape| shape.size), ..Shape::default() };
        shape.text = left.shape.is_text() || right.shape.is_text();
        shape.count = either(Shape::counts);
        shape.keys = keys(left).either(keys(right));
        shape.opaque = left.shape.opaque || right.shape.opaque;
        shape.optional = left.shape.optional || right.shape.optional;
        shape.fraction = left.shape.is_fraction() || right.shape.is_fraction();
        if shape.opaque {
            return Ok(shape.into());
        }
        for name in left.shape.named.keys().chain(right.shape.named.keys()) {
            if !shape.named.contains_key(name) {
                let member = self.either_if(member(left, name), member(right, name), times)?;
                shape.named.extend(member.map(|member| (name.clone(), member)));
            }
        }
        // There are more of these than there are of what they are in.
        shape.rest = self.either_if(child(left, &left.shape.rest), child(right, &right.shape.rest), u64::MAX)?;
        shape.element = self.either_if(child(left, &left.shape.element), child(right, &right.shape.element), u64::MAX)?;
        Ok(shape.into())
    }

    fn either_if(&mut self, left: Option<Part>, right: Option<Part>, times: u64) -> Result<Option<Part>, Excess> {
        match (left, right) {
            (Some(left), Some(right)) => Ok(Some(self.either_of(&left, &right, times)?)),
            (left, right) => Ok(left.or(right)),
        }
    }

    /// As it is kept in a list or an object: no more of it than is put there.
    pub(super) fn kept(&self, part: &Part) -> Part {
        Part { times: part.times.min(self.times), ..part.clone() }
    }

    /// Something new: it is made, and must not be too large.
    pub(super) fn made(&mut self, shape: Shape) -> Result<Part, Excess> {
        self.spend(shape.work.all.min(shape.work.each.saturating_mul(self.times)))?;
        self.held(shape)
    }

    fn held(&self, shape: Shape) -> Result<Part, Excess> {
        if shape.size.each > LARGEST { Err(Excess::Size) } else { Ok(shape.into()) }
    }

    pub(super) fn at(&self, part: &Part, extent: Extent) -> Extent {
        part.at(extent, self.times)
    }

    /// Work to copy what an expression comes to, each time.
    pub(super) fn work(&self, part: &Part) -> u64 {
        self.at(part, part.shape.work).all
    }

    pub(super) fn spend(&mut self, work: u64) -> Result<(), Excess> {
        self.budget.spend(work)
    }

    fn spend_each(&mut self, work: u64) -> Result<(), Excess> {
        self.spend(work.saturating_mul(self.times))
    }
}

/// The keys of objects, of which there are more than objects.
fn keys(part: &Part) -> Extent {
    Extent { each: part.shape.keys.each, all: part.shape.keys.all.saturating_mul(part.repeat) }
}

fn child(part: &Part, child: &Option<Part>) -> Option<Part> {
    child.as_ref().map(|child| part.child(child))
}

fn member(part: &Part, name: &str) -> Option<Part> {
    part.shape.named.get(name).or(part.shape.rest.as_ref()).map(|member| part.child(member))
}
