//! What authorization and audit cost: the same unary call on a server without both and on one with both.

use crate::bench::Bench;
use crate::load::Call;
use crate::report::{median, spread};
use crate::world::{Guard, Store};

/// Records of the two stores.
const RECORDS: u64 = 1_000;

impl Bench<'_> {
    /// Rounds alternate, so that both meet the same machine.
    pub(crate) fn guards(&mut self) -> anyhow::Result<()> {
        eprintln!("measuring: authorization and audit, on and off");
        let (bare, bare_port) = self.world.guarded("bare", &Store::Layout, Guard::Off)?;
        let (guarded, port) = self.world.guarded("guarded", &Store::Layout, Guard::On)?;
        for port in [bare_port, port] {
            self.fill(port, RECORDS, RECORDS, false)?;
        }
        let (mut rates, mut cpu) = (Vec::new(), Vec::new());
        // The first goes first in every other round.
        for round in 0..self.args.rounds.max(5) {
            let off = |bench: &Self| bench.round_of(Call::Resolve, &bare, bare_port, 64, RECORDS);
            let on = |bench: &Self| bench.round_of(Call::Resolve, &guarded, port, 64, RECORDS);
            let (off, on) = if round % 2 == 0 {
                let off = off(self)?;
                (off, on(self)?)
            } else {
                let on = on(self)?;
                (off(self)?, on)
            };
            rates.push(on.0.rate() / off.0.rate());
            cpu.push(on.1 / off.1);
        }
        let name = "resolve with authorization and audit, ratio to without";
        let detail = format!("{}, CPU × {:.2}", spread(&rates), median(&cpu));
        self.report.figure(name, median(&rates), "", detail, "≥ 0.9");
        bare.terminate()?;
        guarded.terminate()
    }
}
