//! Trees laid out for speed, and the walk over them.
//!
//! Every test of the standard is brought to one form, `feature <= threshold`: the others are this one with
//! another threshold, with the branches exchanged, or two of it in a row. So a node is a number, a
//! feature and two places, 16 bytes, and a step is a comparison and two loads without a jump that the
//! processor would have to guess. Leaves point to themselves; that lets eight walks go on side by side
//! until the last has arrived: eight trees for one row, or eight rows down one tree.
//!
//! Nothing here can loop or read outside: what is walked was found to have no cycle when it was laid
//! out, each tree has its depth, and the caller's rows are as wide as [`Forest::width`] says.

/// The numbers that thresholds and weights are made of.
pub trait Real: Copy + PartialOrd + Default + std::fmt::Debug + Send + Sync + 'static {
    const NAN: Self;
    fn from_f64(value: f64) -> Self;
    fn to_f32(self) -> f32;
    fn is_nan(self) -> bool;
    fn next_down(self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn divided_by(self, count: usize) -> Self;
}

macro_rules! real {
    ($t:ident) => {
        impl Real for $t {
            const NAN: Self = $t::NAN;
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            fn next_down(self) -> Self {
                $t::next_down(self)
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
            fn minus(self, other: Self) -> Self {
                self - other
            }
            fn divided_by(self, count: usize) -> Self {
                self / count as $t
            }
        }
    };
}
real!(f32);
real!(f64);

/// What a node asks of its feature. The set is in ascending order and not empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    LessOrEqual(f64),
    Less(f64),
    GreaterOrEqual(f64),
    Greater(f64),
    Equal(f64),
    NotEqual(f64),
    Member(Vec<f64>),
}

/// A node as the file has it; places are those in [`Trees::nodes`].
#[derive(Debug, Clone)]
pub enum Node {
    Branch {
        feature: u32,
        test: Test,
        /// Where a feature that is missing (NaN) goes.
        missing: bool,
        yes: usize,
        no: usize,
    },
    /// What it gives: the target, and the weight for it.
    Leaf(Vec<(u32, f64)>),
}

/// Trees as the file has them.
#[derive(Debug, Clone)]
pub struct Trees {
    pub nodes: Vec<Node>,
    pub roots: Vec<usize>,
    pub targets: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// In a feature's number: NaN counts as "yes".
const NAN_IS_YES: u32 = 1 << 31;

/// How many walks go on side by side.
const LANES: usize = 8;

/// How many rows go down one tree before the next: they stay in the cache meanwhile.
const SWEEP: usize = 128;

#[derive(Debug, Clone, Copy)]
struct Flat<T> {
    threshold: T,
    /// With [`NAN_IS_YES`].
    feature: u32,
    /// For "no" and for "yes".
    next: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
struct Root {
    at: u32,
    depth: u32,
}

#[derive(Debug)]
enum Leaves<T> {
    /// All give one weight to the same target.
    One { target: usize, weights: Vec<T> },
    /// Each has a part of the votes.
    Many { parts: Vec<(u32, u32)>, votes: Vec<(u32, T)> },
}

/// Trees laid out flat.
#[derive(Debug)]
pub struct Forest<T> {
    /// Branches, parents before children; then the leaves.
    nodes: Vec<Flat<T>>,
    branches: u32,
    roots: Vec<Root>,
    leaves: Leaves<T>,
    targets: usize,
    width: usize,
    any_missing: bool,
}

/// A target's result so far; a target that no leaf votes for has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score<T> {
    pub value: T,
    pub voted: bool,
}

/// A place while the layout is under way: a branch, or a leaf when the highest bit is set.
type Place = u32;
const LEAF: u32 = 1 << 31;

/// The next number below; NaN, to which nothing compares, where there is none.
fn below<T: Real>(value: T) -> T {
    let next = value.next_down();
    if next < value { next } else { T::NAN }
}

struct Layout<T> {
    /// Children before parents.
    branches: Vec<Flat<T>>,
    leaves: Vec<usize>,
}

impl<T: Real> Layout<T> {
    fn branch(&mut self, feature: u32, missing: bool, threshold: T, yes: Place, no: Place) -> Place {
        let feature = feature | if missing { NAN_IS_YES } else { 0 };
        self.branches.push(Flat { threshold, feature, next: [no, yes] });
        self.branches.len() as u32 - 1
    }

    /// Branches for any test.
    fn test(&mut self, feature: u32, test: &Test, missing: bool, yes: Place, no: Place) -> Place {
        let number = |value: &f64| T::from_f64(*value);
        match test {
            Test::LessOrEqual(t) => self.branch(feature, missing, number(t), yes, no),
            Test::Less(t) => self.branch(feature, missing, below(number(t)), yes, no),
            // Nothing is greater than NaN: exchanged branches would say that everything is.
            Test::Greater(t) | Test::GreaterOrEqual(t) if t.is_nan() => {
                self.branch(feature, missing, T::NAN, yes, no)
            }
            Test::Greater(t) => self.branch(feature, !missing, number(t), no, yes),
            Test::GreaterOrEqual(t) => self.branch(feature, !missing, below(number(t)), no, yes),
            Test::Equal(t) => self.equal(feature, missing, number(t), yes, no),
            Test::NotEqual(t) => self.equal(feature, !missing, number(t), no, yes),
            Test::Member(set) => self.member(feature, missing, set, yes, no),
        }
    }

    fn equal(&mut self, feature: u32, missing: bool, value: T, yes: Place, no: Place) -> Place {
        let not_below = self.branch(feature, false, below(value), no, yes);
        self.branch(feature, missing, value, not_below, no)
    }

    /// Halves the set until one is left.
    fn member(&mut self, feature: u32, missing: bool, set: &[f64], yes: Place, no: Place) -> Place {
        match set {
            [] => no,
            [value] => self.equal(feature, missing, T::from_f64(*value), yes, no),
            _ => {
                let (low, high) = set.split_at(set.len() / 2);
                let upper = self.member(feature, missing, high, yes, no);
                let lower = self.member(feature, missing, low, yes, no);
                let last = T::from_f64(*low.last().expect("a half of two or more is not empty"));
                self.branch(feature, missing, last, lower, upper)
            }
        }
    }
}

impl<T: Real> Forest<T> {
    /// Lays trees out. Says what is wrong with them: a place that is none, a node that is its own
    /// descendant, a target that is none.
    pub fn new(trees: &Trees) -> Result<Forest<T>, String> {
        let mut layout = Layout { branches: Vec::new(), leaves: Vec::new() };
        let mut done: Vec<Option<(Place, u32)>> = vec![None; trees.nodes.len()];
        let mut open = vec![false; trees.nodes.len()];
        let mut roots = Vec::with_capacity(trees.roots.len());
        let mut width = 0;
        // The layout is turned round in the end, so the last tree comes first.
        for root in trees.roots.iter().rev() {
            lay_out(trees, *root, &mut layout, &mut done, &mut open)?;
            let (at, depth) = done[*root].expect("lay_out() places the root");
            roots.push(Root { at, depth });
        }
        let (branches, leaves) = (layout.branches.len(), layout.leaves.len());
        if branches + leaves >= LEAF as usize {
            return Err(format!("{} nodes: expected at most 2147483647", branches + leaves));
        }
        let turned = |place: Place| match place & LEAF {
            0 => branches as u32 - 1 - place,
            _ => branches as u32 + leaves as u32 - 1 - (place & !LEAF),
        };
        let mut nodes = Vec::with_capacity(branches + leaves);
        for flat in layout.branches.iter().rev() {
            width = width.max((flat.feature & !NAN_IS_YES) as usize + 1);
            nodes.push(Flat { next: flat.next.map(turned), ..*flat });
        }
        for at in branches..branches + leaves {
            nodes.push(Flat { threshold: T::NAN, feature: 0, next: [at as u32; 2] });
        }
        let any_missing = nodes.iter().any(|node| node.feature & NAN_IS_YES != 0);
        roots.reverse();
        roots.iter_mut().for_each(|root| root.at = turned(root.at));
        let places: Vec<usize> = layout.leaves.iter().rev().copied().collect();
        let leaves = votes(trees, &places)?;
        let branches = branches as u32;
        Ok(Forest { nodes, branches, roots, leaves, targets: trees.targets, width, any_missing })
    }

    /// How many features a row must have.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The trees' answers for each row, put together: a score for each target, rows one after another.
    /// An average is still a sum here. Rows that are too narrow get no scores.
    pub fn scores(&self, input: &[T], rows: usize, aggregate: Aggregate) -> Vec<Score<T>> {
        let mut scores = vec![Score::default(); rows * self.targets];
        let width = input.len().checked_div(rows).unwrap_or(0);
        if width < self.width.max(1) || self.targets == 0 {
            return scores;
        }
        match (aggregate, self.any_missing) {
            (Aggregate::Sum | Aggregate::Average, false) => {
                self.sweep::<false>(input, width, &mut scores, |score, weight| {
                    *score = Score { value: score.value.plus(weight), voted: true };
                });
            }
            (Aggregate::Sum | Aggregate::Average, true) => {
                self.sweep::<true>(input, width, &mut scores, |score, weight| {
                    *score = Score { value: score.value.plus(weight), voted: true };
                });
            }
            (Aggregate::Min, _) => self.sweep::<true>(input, width, &mut scores, |score, weight| {
                if !score.voted || weight < score.value {
                    *score = Score { value: weight, voted: true };
                }
            }),
            (Aggregate::Max, _) => self.sweep::<true>(input, width, &mut scores, |score, weight| {
                if !score.voted || weight > score.value {
                    *score = Score { value: weight, voted: true };
                }
            }),
        }
        scores
    }

    /// Each row's votes come in the order of the trees, however the walks are arranged: sums depend on
    /// it.
    fn sweep<const MISSING: bool>(
        &self,
        input: &[T],
        width: usize,
        scores: &mut [Score<T>],
        mut vote: impl FnMut(&mut Score<T>, T),
    ) {
        for (input, scores) in input.chunks(SWEEP * width).zip(scores.chunks_mut(SWEEP * self.targets)) {
            let eights = input.chunks_exact(LANES * width);
            let rest = eights.remainder();
            let (wide, narrow) = scores.split_at_mut(scores.len() - rest.len() / width * self.targets);
            for root in &self.roots {
                for (input, scores) in eights.clone().zip(wide.chunks_exact_mut(LANES * self.targets)) {
                    let rows = std::array::from_fn(|lane| &input[lane * width..][..width]);
                    let leaves = self.walk::<MISSING>([root.at; LANES], root.depth, rows);
                    for (leaf, scores) in leaves.iter().zip(scores.chunks_exact_mut(self.targets)) {
                        self.votes(*leaf, scores, &mut vote);
                    }
                }
            }
            for (row, scores) in rest.chunks_exact(width).zip(narrow.chunks_exact_mut(self.targets)) {
                for roots in self.roots.chunks(LANES) {
                    // Lanes without a tree stand on a leaf.
                    let at =
                        std::array::from_fn(|lane| roots.get(lane).map_or(self.branches, |root| root.at));
                    let depth = roots.iter().map(|root| root.depth).max().unwrap_or(0);
                    let leaves = self.walk::<MISSING>(at, depth, [row; LANES]);
                    for leaf in &leaves[..roots.len()] {
                        self.votes(*leaf, scores, &mut vote);
                    }
                }
            }
        }
    }

    /// Goes on until every lane has come to a leaf; their places among the leaves.
    fn walk<const MISSING: bool>(
        &self,
        mut at: [u32; LANES],
        depth: u32,
        rows: [&[T]; LANES],
    ) -> [u32; LANES] {
        for _ in 0..depth {
            let mut nearest = u32::MAX;
            for (at, row) in at.iter_mut().zip(rows) {
                let node = &self.nodes[*at as usize];
                let value = row[(node.feature & !NAN_IS_YES) as usize];
                let mut yes = value <= node.threshold;
                if MISSING {
                    yes |= (node.feature & NAN_IS_YES != 0) & value.is_nan();
                }
                *at = node.next[usize::from(yes)];
                nearest = nearest.min(*at);
            }
            if nearest >= self.branches {
                break;
            }
        }
        at.map(|at| at - self.branches)
    }

    fn votes(&self, leaf: u32, scores: &mut [Score<T>], vote: &mut impl FnMut(&mut Score<T>, T)) {
        match &self.leaves {
            Leaves::One { target, weights } => vote(&mut scores[*target], weights[leaf as usize]),
            Leaves::Many { parts, votes } => {
                let (from, to) = parts[leaf as usize];
                for (target, weight) in &votes[from as usize..to as usize] {
                    vote(&mut scores[*target as usize], *weight);
                }
            }
        }
    }
}

/// Places a tree's nodes, children first, each once. Without recursion: a file can hold a tree that is deeper
/// than the stack.
fn lay_out<T: Real>(
    trees: &Trees,
    root: usize,
    layout: &mut Layout<T>,
    done: &mut [Option<(Place, u32)>],
    open: &mut [bool],
) -> Result<(), String> {
    let mut stack = vec![root];
    while let Some(at) = stack.last().copied() {
        let node = trees.nodes.get(at).ok_or_else(|| {
            format!("a branch leads to node {at}: expected one of the {} nodes", trees.nodes.len())
        })?;
        if done[at].is_some() {
            stack.pop();
            continue;
        }
        match node {
            Node::Leaf(_) => {
                layout.leaves.push(at);
                done[at] = Some((LEAF | (layout.leaves.len() as u32 - 1), 0));
                stack.pop();
            }
            Node::Branch { feature, test, missing, yes, no } => {
                let place = |at: &usize| done.get(*at).copied().flatten();
                if let (Some((yes, a)), Some((no, b))) = (place(yes), place(no)) {
                    let before = layout.branches.len();
                    let entry = layout.test(*feature, test, *missing, yes, no);
                    let own = (layout.branches.len() - before) as u32;
                    done[at] = Some((entry, a.max(b).saturating_add(own)));
                    stack.pop();
                } else if open[at] {
                    return Err(format!("node {at} is reached again from its own branches: expected a tree"));
                } else {
                    open[at] = true;
                    stack.extend([*no, *yes]);
                }
            }
        }
    }
    Ok(())
}

fn votes<T: Real>(trees: &Trees, places: &[usize]) -> Result<Leaves<T>, String> {
    let of = |place: &usize| match &trees.nodes[*place] {
        Node::Leaf(votes) => votes.as_slice(),
        Node::Branch { .. } => &[],
    };
    let mut all = places.iter().flat_map(of);
    if let Some((target, _)) = all.clone().find(|(target, _)| *target as usize >= trees.targets) {
        return Err(format!("a leaf votes for target {target}: expected less than {}", trees.targets));
    }
    let first = all.next().map_or(0, |(target, _)| *target);
    if places.iter().all(|place| matches!(of(place), [(target, _)] if *target == first)) {
        let weights = places.iter().map(|place| T::from_f64(of(place)[0].1)).collect();
        return Ok(Leaves::One { target: first as usize, weights });
    }
    let (mut parts, mut votes) = (Vec::with_capacity(places.len()), Vec::new());
    for place in places {
        let from = votes.len() as u32;
        votes.extend(of(place).iter().map(|(target, weight)| (*target, T::from_f64(*weight))));
        parts.push((from, votes.len() as u32));
    }
    Ok(Leaves::Many { parts, votes })
}
