//! Which plans run a number of rows at the lowest cost.
//!
//! A plan for n rows has a measured cost. It can also run fewer than n rows; the last row is then repeated. The cheapest
//! combination for each number of rows is computed in advance. For example nine rows can run as 8 + 1, and seven rows as
//! one 8 that is not full.

/// What a run of a plan costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// The rows of the plan.
    pub rows: usize,
    /// The cost of one run with any number of these rows, in seconds or any other unit, the same for all plans.
    pub run: f64,
}

/// The cheapest first plan for each number of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The rows of the largest plan.
    largest: usize,
    /// At index n: the index of the plan that runs first when there are n rows.
    first: Vec<usize>,
    /// The rows of each plan.
    rows: Vec<usize>,
}

impl Schedule {
    /// `costs` has one entry per plan. The first plan is for a single row.
    pub fn new(costs: &[Cost]) -> Schedule {
        let largest = costs.iter().map(|cost| cost.rows).max().unwrap_or(1);
        // The table ends at twice the rows of the largest plan. With more rows, `begin` uses the last entry.
        let mut best = vec![0.0_f64; 2 * largest + 1];
        let mut first = vec![0; 2 * largest + 1];
        for rows in 1..best.len() {
            let ways = costs.iter().enumerate().map(|(plan, cost)| {
                let rest = rows.saturating_sub(cost.rows);
                (cost.run + best[rest], plan)
            });
            let (cost, plan) = ways.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0));
            (best[rows], first[rows]) = (cost, plan);
        }
        Schedule { largest, first, rows: costs.iter().map(|cost| cost.rows).collect() }
    }

    /// The rows of the largest plan. Gathering more rows than this gains nothing.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// The plan that runs first when there are `rows` rows: its index, and how many of the rows it runs.
    pub fn begin(&self, rows: usize) -> (usize, usize) {
        let plan = self.first[rows.min(self.first.len() - 1)];
        (plan, self.rows[plan].min(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(costs: &[(usize, f64)], mut rows: usize) -> Vec<usize> {
        let costs: Vec<Cost> = costs.iter().map(|(rows, run)| Cost { rows: *rows, run: *run }).collect();
        let schedule = Schedule::new(&costs);
        let mut pieces = Vec::new();
        while rows > 0 {
            let (plan, taken) = schedule.begin(rows);
            pieces.push(costs[plan].rows);
            rows -= taken;
        }
        pieces.sort_unstable();
        pieces
    }

    #[test]
    fn rows_are_split_so_that_the_total_cost_is_lowest() {
        let costs = [(1, 1.0), (2, 1.6), (8, 4.0)];
        assert_eq!(pieces(&costs, 1), [1]);
        assert_eq!(pieces(&costs, 3), [1, 2]);
        assert_eq!(pieces(&costs, 9), [1, 8]);
        assert_eq!(pieces(&costs, 27), [1, 2, 8, 8, 8]);
    }

    #[test]
    fn a_plan_that_is_not_full_is_used_when_it_is_cheaper() {
        assert_eq!(pieces(&[(1, 1.0), (8, 4.0)], 7), [8]);
        assert_eq!(pieces(&[(1, 1.0), (8, 4.0)], 3), [1, 1, 1]);
    }

    #[test]
    fn without_other_plans_every_row_runs_alone() {
        assert_eq!(pieces(&[(1, 1.0)], 5), [1; 5]);
    }
}
