//! The tables of `bench client`, in Markdown.
//!
//! Owns the rows, the ratios and the words on whether the aims are met. Pure but for printing. Called by `client`.

use super::tools::{CONCURRENCY, Kind, TOKENS, Tool};
use super::{MODES, Run};

/// The issue's: times less CPU a token than the best of the others, peak memory, time over the load's.
const CPU_AIM: f64 = 20.0;
const MEMORY_AIM_MIB: f64 = 40.0;
const OVERHEAD_AIM_S: f64 = 0.3;

pub(crate) fn print(rounds: u32, requests: u32, tools: &[Tool], runs: &[[Vec<Run>; MODES.len()]]) {
    println!(
        "\n### {requests} requests of {TOKENS} tokens, {CONCURRENCY} at a time, medians of {rounds} rounds\n"
    );
    println!("Errors are against the server's log. In brackets: times what inferscope takes.");
    for (place, (mode, _, gaps)) in MODES.iter().enumerate() {
        let rows: Vec<Row> =
            tools.iter().zip(runs).filter_map(|(tool, runs)| Row::of(tool.kind, &runs[place])).collect();
        if rows.is_empty() {
            continue;
        }
        let truth = |of: fn(&Run) -> f64| {
            let all: Vec<Run> = runs.iter().flat_map(|runs| &runs[place]).copied().collect();
            Run::all(&all, of)
        };
        println!(
            "\n**{mode}**: {gaps}. True TTFT {:.2} ms on average, gap p50 {:.2} ms, p90 {:.2} ms.\n",
            truth(|run| run.truth.ttft_mean_ms),
            truth(|run| run.truth.gap_ms[0]),
            truth(|run| run.truth.gap_ms[1]),
        );
        println!(
            "| | mean TTFT, error | gap p50, error | gap p90, error | CPU a token | largest process | all processes \
             | time over the load's |\n|---|--:|--:|--:|--:|--:|--:|--:|"
        );
        let ours = rows.iter().find(|row| row.kind == Kind::Inferscope);
        for row in &rows {
            println!("{}", row.line(ours.filter(|ours| ours.kind != row.kind)));
        }
        if let Some(ours) = ours {
            println!("\n{}", ours.against_the_aims(&rows));
        }
    }
    println!("\nWhat is compared with the gap:\n");
    for tool in tools {
        println!("- {} ({}): {}", tool.kind.name(), tool.version, tool.kind.gap_is_called());
    }
}

/// Medians of one tool in one mode.
struct Row {
    kind: Kind,
    errors_ms: [f64; 3],
    cpu_us_a_token: f64,
    largest_mib: f64,
    summed_mib: f64,
    overhead_s: f64,
}

impl Row {
    fn of(kind: Kind, runs: &[Run]) -> Option<Self> {
        const MIB: f64 = 1024.0 * 1024.0;
        let median = |of: fn(&Run) -> f64| Run::all(runs, of);
        (!runs.is_empty()).then(|| Self {
            kind,
            errors_ms: [
                median(Run::ttft_error_ms),
                median(|run| run.gap_error_ms(0)),
                median(|run| run.gap_error_ms(1)),
            ],
            cpu_us_a_token: median(Run::cpu_us_a_token),
            largest_mib: median(|run| run.cost.largest_bytes as f64 / MIB),
            summed_mib: median(|run| run.cost.summed_bytes as f64 / MIB),
            overhead_s: median(Run::overhead_s),
        })
    }

    /// With ratios to `ours`, where it is another's.
    fn line(&self, ours: Option<&Self>) -> String {
        let times = |of: fn(&Self) -> f64| {
            ours.map_or(String::new(), |ours| format!(" ({})", ratio(of(self) / of(ours))))
        };
        let errors = self.errors_ms.map(|error| format!("{error:+.2} ms")).join(" | ");
        format!(
            "| {} | {errors} | {:.0} µs{} | {:.0} MiB{} | {:.0} MiB{} | {:.2} s{} |",
            self.kind.name(),
            self.cpu_us_a_token,
            times(|row| row.cpu_us_a_token),
            self.largest_mib,
            times(|row| row.largest_mib),
            self.summed_mib,
            times(|row| row.summed_mib),
            self.overhead_s,
            times(|row| row.overhead_s),
        )
    }

    fn against_the_aims(&self, rows: &[Self]) -> String {
        let word = |met: bool| if met { "met" } else { "**not met**" };
        let best = rows.iter().filter(|row| !row.kind.is_ours()).map(|row| row.cpu_us_a_token);
        let cpu = best.reduce(f64::min).map(|best| best / self.cpu_us_a_token);
        let cpu = cpu.map_or("unknown, as no other ran".to_owned(), |times| {
            format!("{} less than the best of the others: {}", ratio(times), word(times >= CPU_AIM))
        });
        format!(
            "Aims: CPU a token {CPU_AIM}× less: {cpu}. Memory under {MEMORY_AIM_MIB} MiB: {}. \
             Under {OVERHEAD_AIM_S} s over the load's time: {}.",
            word(self.largest_mib < MEMORY_AIM_MIB),
            word(self.overhead_s < OVERHEAD_AIM_S),
        )
    }
}

fn ratio(times: f64) -> String {
    if times < 10.0 { format!("{times:.1}×") } else { format!("{times:.0}×") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, cpu_us_a_token: f64, mib: f64, overhead_s: f64) -> Row {
        let errors_ms = [0.1, -0.2, 3.0];
        Row { kind, errors_ms, cpu_us_a_token, largest_mib: mib, summed_mib: mib * 2.0, overhead_s }
    }

    #[test]
    fn others_are_told_as_a_multiple_and_aims_as_met_or_not() {
        let ours = row(Kind::Inferscope, 100.0, 30.0, 0.2);
        let other = row(Kind::Aiperf, 1990.0, 600.0, 8.0);
        assert_eq!(
            other.line(Some(&ours)),
            "| aiperf | +0.10 ms | -0.20 ms | +3.00 ms | 1990 µs (20×) | 600 MiB (20×) | 1200 MiB (20×) | 8.00 s (40×) |"
        );
        let said = ours.against_the_aims(&[other, row(Kind::InferscopePolling, 1.0, 1.0, 1.0)]);
        assert!(said.contains("20× less than the best of the others: **not met**"), "{said}");
        assert!(said.contains("40 MiB: met") && said.contains("time: met"), "{said}");
    }
}
