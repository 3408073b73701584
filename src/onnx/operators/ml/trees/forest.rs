//! Lays trees out for speed, and walks them.
//!
//! Every test of the standard is converted to the form `feature <= threshold`. The other tests are this one with another
//! threshold, with exchanged branches, or two of it in sequence. So a node is a threshold, a feature and two places: 16
//! bytes. A step is one comparison and two loads, without a jump that the processor would have to predict. The branches
//! of a leaf lead to the leaf itself. So eight walks can run in parallel until the last one has reached a leaf: eight
//! trees for one row, or eight rows in one tree.
//!
//! Invariants: a walk always ends and never reads outside the trees, because the layout refuses cycles and records the
//! depth of each tree. Rows have at least [`Forest::width`] features.

/// The type of thresholds and weights: `f32` or `f64`.
pub trait Real: Copy + PartialOrd + Default + std::fmt::Debug + Send + Sync + 'static {
    const NAN: Self;
    /// Rounds to this precision.
    fn from_f64(value: f64) -> Self;
    fn to_f32(self) -> f32;
    fn is_nan(self) -> bool;
    /// The next smaller number.
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

/// The comparison of a node: feature, operator, number. The set of `Member` is sorted and not empty.
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

/// A node as in the file. Places are indices in [`Trees::nodes`].
#[derive(Debug, Clone)]
pub enum Node {
    /// Compares a feature, and goes on at one of two nodes.
    Branch {
        /// The index of the feature in a row.
        feature: u32,
        test: Test,
        /// True when a missing feature (NaN) goes to `yes`.
        missing: bool,
        yes: usize,
        no: usize,
    },
    /// Ends a walk. It holds targets, and the weight for each.
    Leaf(Vec<(u32, f64)>),
}

/// The trees of a file.
#[derive(Debug, Clone)]
pub struct Trees {
    /// All nodes of all trees.
    pub nodes: Vec<Node>,
    /// The place of each tree's first node.
    pub roots: Vec<usize>,
    /// The number of targets (or classes).
    pub targets: usize,
}

/// How the weights of all trees for one target become a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// The bit in [`Flat::feature`] which says that NaN goes to "yes".
const NAN_IS_YES: u32 = 1 << 31;

/// The number of walks that run in parallel.
const LANES: usize = 8;

/// The number of rows that walk one tree before the next tree. So few rows stay in the processor's cache.
const SWEEP: usize = 128;

/// A node in the layout.
#[derive(Debug, Clone, Copy)]
struct Flat<T> {
    threshold: T,
    /// The index of the feature, and the bit [`NAN_IS_YES`].
    feature: u32,
    /// The places of the next node for "no" and for "yes".
    next: [u32; 2],
}

/// The start of a tree, and the longest walk in it.
#[derive(Debug, Clone, Copy)]
struct Root {
    at: u32,
    depth: u32,
}

/// The weights of the leaves.
#[derive(Debug)]
enum Leaves<T> {
    /// Every leaf has one weight, for the same target.
    One { target: usize, weights: Vec<T> },
    /// The weights of a leaf are the range `parts[leaf]` of `votes`, each with its target.
    Many { parts: Vec<(u32, u32)>, votes: Vec<(u32, T)> },
}

/// Trees in one flat list.
#[derive(Debug)]
pub struct Forest<T> {
    /// First the branches, parents before children; then the leaves.
    nodes: Vec<Flat<T>>,
    /// The number of branches.
    branches: u32,
    roots: Vec<Root>,
    leaves: Leaves<T>,
    targets: usize,
    width: usize,
    /// True when NaN goes to "yes" at some node. Else walks need no check for NaN, because it compares as "no".
    any_missing: bool,
}

/// The result for one target of a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score<T> {
    /// The aggregate of the weights; 0 without one.
    pub value: T,
    /// True when at least one leaf had a weight for this target.
    pub voted: bool,
}

/// A place while the layout is made: an index among the branches, or among the leaves when the bit [`LEAF`] is set.
type Place = u32;
/// The bit in a [`Place`] that marks a leaf.
const LEAF: u32 = 1 << 31;

/// The next smaller number. If there is none: NaN, for which every comparison is false.
fn below<T: Real>(value: T) -> T {
    let next = value.next_down();
    if next < value { next } else { T::NAN }
}

/// A layout while it is made.
struct Layout<T> {
    /// Children before parents.
    branches: Vec<Flat<T>>,
    /// The places of the leaves in [`Trees::nodes`].
    leaves: Vec<usize>,
}

impl<T: Real> Layout<T> {
    /// Adds one branch: `feature <= threshold`.
    fn branch(&mut self, feature: u32, missing: bool, threshold: T, yes: Place, no: Place) -> Place {
        let feature = feature | if missing { NAN_IS_YES } else { 0 };
        self.branches.push(Flat { threshold, feature, next: [no, yes] });
        self.branches.len() as u32 - 1
    }

    /// Adds the branches for a test, and returns the first of them.
    fn test(&mut self, feature: u32, test: &Test, missing: bool, yes: Place, no: Place) -> Place {
        let number = |value: &f64| T::from_f64(*value);
        match test {
            Test::LessOrEqual(t) => self.branch(feature, missing, number(t), yes, no),
            Test::Less(t) => self.branch(feature, missing, below(number(t)), yes, no),
            // No number is greater than NaN. With exchanged branches, every number would be.
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

    /// Adds two branches for `feature == value`.
    fn equal(&mut self, feature: u32, missing: bool, value: T, yes: Place, no: Place) -> Place {
        let not_below = self.branch(feature, false, below(value), no, yes);
        self.branch(feature, missing, value, not_below, no)
    }

    /// Adds the branches for a set: a binary search.
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
    /// Lays trees out. It is an error when a branch leads to a node that does not exist or back to itself, or when a
    /// leaf has a target that does not exist.
    pub fn new(trees: &Trees) -> Result<Forest<T>, String> {
        let mut layout = Layout { branches: Vec::new(), leaves: Vec::new() };
        let mut done: Vec<Option<(Place, u32)>> = vec![None; trees.nodes.len()];
        let mut open = vec![false; trees.nodes.len()];
        let mut roots = Vec::with_capacity(trees.roots.len());
        let mut width = 0;
        // The layout is reversed at the end, so it starts with the last tree.
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

    /// The fewest features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Computes the scores of `rows` rows: `[rows, targets]`, row-major. `input` is `[rows, features]`. For an average,
    /// the scores are sums that the caller must divide. Rows with too few features get scores without votes.
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

    /// Walks all trees for all rows, and calls `vote` for each weight. For each row, the calls come in the order of the
    /// trees: a sum of floats depends on the order.
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
                    // A lane without a tree starts on a leaf.
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

    /// Walks until every lane has reached a leaf. Returns the indices of these leaves.
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

    /// Calls `vote` for each weight of a leaf.
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

/// Adds the nodes of a tree to the layout, children first, each once. It does not use recursion, because a tree in a file
/// can be deeper than the stack.
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

/// The weights of the leaves at these places, in this order.
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
