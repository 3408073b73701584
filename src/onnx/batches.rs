//! Which plans a number of rows is run with.
//!
//! A plan for n rows costs what was measured, and may be given fewer than n (the last row is then repeated). For each
//! number of rows the cheapest way is worked out beforehand: nine rows may be 8 + 1, seven an 8 that is not full.

/// Rows that a plan is for, and what a run of it costs (seconds, or any other unit that all share).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    pub rows: usize,
    pub run: f64,
}

/// The cheapest way for each number of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    largest: usize,
    /// At `n`: the index of the plan with which n rows begin.
    first: Vec<usize>,
    rows: Vec<usize>,
}

impl Schedule {
    /// `costs` are the plans there are; the first is for a single row.
    pub fn new(costs: &[Cost]) -> Schedule {
        let largest = costs.iter().map(|cost| cost.rows).max().unwrap_or(1);
        // Above twice the largest plan that one is begun with, whatever follows.
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

    /// Rows of the largest plan: more at once gain nothing.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// The plan with which `rows` rows are begun: its index, and how many of the rows it takes.
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
    fn rows_are_cut_so_that_the_whole_costs_least() {
        let costs = [(1, 1.0), (2, 1.6), (8, 4.0)];
        assert_eq!(pieces(&costs, 1), [1]);
        assert_eq!(pieces(&costs, 3), [1, 2]);
        assert_eq!(pieces(&costs, 9), [1, 8]);
        assert_eq!(pieces(&costs, 27), [1, 2, 8, 8, 8]);
    }

    #[test]
    fn a_plan_that_is_not_full_is_taken_when_it_is_cheaper() {
        assert_eq!(pieces(&[(1, 1.0), (8, 4.0)], 7), [8]);
        assert_eq!(pieces(&[(1, 1.0), (8, 4.0)], 3), [1, 1, 1]);
    }

    #[test]
    fn without_other_plans_every_row_is_run_alone() {
        assert_eq!(pieces(&[(1, 1.0)], 5), [1; 5]);
    }
}
