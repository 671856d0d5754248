//! `faulty:`: the drive with faults of given rates, to see their effects: a lap never uses
//! a wrong byte; it ends with an error, or the server reports that it is ill.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use delayline_line::Medium;
use delayline_medium::{
    FaultCounts, Faults, Faulty, MadeMedium, MakeError, MediumMaker, MediumSite,
};
use serde_json::json;

use super::{MediumArg, MediumFigures, MediumKind, MediumTold, Pairs};

pub(super) const KIND: MediumKind = MediumKind {
    name: "faulty",
    examples: || "faulty:flipped=1e-3,seed=7".into(),
    parse,
    told,
};

type Share = fn(&mut Faults) -> &mut f64;

/// Faults that are given as a share of reads, and their fields in [`Faults`].
const SHARES: [(&str, Share); 6] = [
    ("flipped", |faults| &mut faults.flipped),
    ("zeroed", |faults| &mut faults.zeroed),
    ("misplaced", |faults| &mut faults.misplaced),
    ("short", |faults| &mut faults.short),
    ("failed", |faults| &mut faults.transient),
    ("hung", |faults| &mut faults.hung),
];

/// Maximum number of successive faults of a read: one fewer than the line's attempts.
const IN_A_ROW: u32 = 3;

fn parse(pairs: Pairs, _: &Path) -> Result<MediumArg> {
    let mut maker = FaultyMaker {
        faults: Faults {
            in_a_row: IN_A_ROW,
            ..Faults::default()
        },
        seed: 1,
    };
    for (key, value) in pairs {
        if key == "seed" || key == "gone" {
            let Ok(number) = value.parse() else {
                bail!("{key}={value}: expected a whole number");
            };
            match &*key {
                "seed" => maker.seed = number,
                _ => maker.faults.gone_after = Some(number),
            }
            continue;
        }
        let Some((_, share)) = SHARES.iter().find(|(name, _)| *name == key) else {
            let names = SHARES.map(|(name, _)| name).join(", ");
            // A word alone is parsed as a preset's name, and there are no presets here.
            let word = if key == "preset" { &value } else { &key };
            bail!("`{word}` is no parameter: expected {names}, gone or seed");
        };
        match value.parse::<f64>() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => *share(&mut maker.faults) = rate,
            _ => bail!("{key}={value}: expected a share of reads, from 0 to 1"),
        }
    }
    Ok(MediumArg {
        before: Some(format!("the drive has faults, from seed {}", maker.seed)),
        maker: Some(Arc::new(maker)),
        ..MediumArg::default()
    })
}

#[derive(Debug)]
struct FaultyMaker {
    faults: Faults,
    seed: u64,
}

impl MediumMaker for FaultyMaker {
    fn name(&self) -> Option<String> {
        Some("a faulty drive".into())
    }

    fn insists(&self) -> bool {
        true
    }

    fn make(
        &self,
        behind: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError> {
        let faulty = Faulty::new(behind, self.faults.clone(), self.seed);
        Ok(Box::new(faulty.spoiling(site.memory.clone())))
    }
}

fn told(made: &dyn Any) -> Option<MediumTold> {
    let drive: &Faulty<Box<dyn Medium>> = made.downcast_ref()?;
    let FaultCounts {
        flipped,
        zeroed,
        misplaced,
        short,
        transient,
        hung,
        gone,
        ..
    } = drive.counts();
    let lies = flipped + zeroed + misplaced;
    let failed = short + transient + hung + gone;
    Some(MediumTold {
        before: None,
        figures: MediumFigures {
            kind: KIND.name.into(),
            source: "faulty drive".into(),
            allows: "the drive allows".into(),
            lines: format!("faults   {lies} reads brought wrong bytes, {failed} others failed\n"),
            details: json!({
                "flipped": flipped,
                "zeroed": zeroed,
                "misplaced": misplaced,
                "short": short,
                "failed": transient,
                "hung": hung,
                "gone": gone,
            }),
            ..MediumFigures::default()
        },
        notices: Box::new(Vec::new),
    })
}

#[cfg(test)]
mod tests {
    use crate::medium::parse_medium;

    #[test]
    fn faults_are_understood_or_named() {
        let arg = parse_medium("faulty:flipped=1e-3,gone=50,seed=7").expect("faults");
        let maker = format!("{:?}", arg.maker.expect("a drive"));
        for words in ["flipped: 0.001", "gone_after: Some(50)", "seed: 7"] {
            assert!(maker.contains(words), "{words} is not in {maker}");
        }
        for (text, words) in [
            ("faulty:flipped=2", "from 0 to 1"),
            ("faulty:flipped=nan", "from 0 to 1"),
            ("faulty:torn=0.1", "expected flipped, zeroed"),
            ("faulty:much", "`much` is no parameter"),
            ("faulty:seed=-1", "whole number"),
        ] {
            let message = format!("{:#}", parse_medium(text).expect_err(text));
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
