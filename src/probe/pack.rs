//! What verdicts need of a report, small enough for a status.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use whittle_image::packed::{deflate, inflate};
use whittle_image::{Contents, Executable, Listed, Runs};

/// The most that a packed report may expand to: a thousand programs have about 200 KiB.
const EXPANDED: u64 = 1 << 20;
/// Bytes of a packed report: a runner sends no longer ones.
pub(super) const PACKED: usize = 256 << 10;

/// The programs of a report and where they are looked up, deflated, in base64. Judged as the whole report
/// is, with fewer words on what a program needs.
pub fn pack(contents: &Contents) -> String {
    let small = Contents {
        platform: contents.platform.clone(),
        // By which distribution a shell is known.
        os: contents.os.clone(),
        user: contents.user.clone(),
        env_path: contents.env_path.clone(),
        working_dir: contents.working_dir.clone(),
        health_check: contents.health_check.clone(),
        executables: Listed {
            items: contents.executables.items.iter().map(small).collect(),
            omitted: contents.executables.omitted,
        },
        unmarked: contents.unmarked.clone(),
        links: contents.links.clone(),
        partial: contents.partial,
        ..Contents::default()
    };
    let json = serde_json::to_vec(&small).expect("a report has string keys only");
    STANDARD.encode(deflate(&json))
}

fn small(program: &Executable) -> Executable {
    Executable {
        path: program.path.clone(),
        file: program.file.clone(),
        kind: program.kind,
        runs: program.runs,
        restricted: program.restricted,
        capabilities: program.capabilities.clone(),
        shell: program.shell,
        fault: program.fault,
        message: program
            .message
            .clone()
            .filter(|_| program.runs != Runs::Yes),
        // A library path of the container's own changes what a program with libraries finds.
        interpreter: program.interpreter.clone(),
        ..Executable::default()
    }
}

/// Reads what [`pack`] wrote; none where it is something else.
pub fn unpack(text: &str) -> Option<Contents> {
    if text.len() > PACKED {
        return None;
    }
    let bytes = STANDARD.decode(text).ok()?;
    serde_json::from_slice(&inflate(&bytes, EXPANDED).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn what_is_packed_comes_back_and_is_small() {
        use whittle_image::shell::{Shell, ShellFile};
        let mut contents = fixtures::debian();
        contents.executables.items[0].capabilities = vec!["cap_net_raw".into()];
        contents.executables.items[1].shell = Some(ShellFile {
            kind: Shell::Dash,
            pipefail: false,
        });
        let packed = pack(&contents);
        let back = unpack(&packed).unwrap();
        let paths = |contents: &Contents| -> Vec<String> {
            let items = contents.executables.items.iter();
            items.map(|program| program.path.clone()).collect()
        };
        assert_eq!(paths(&back), paths(&contents));
        assert_eq!(back.os, contents.os);
        for (back, item) in back
            .executables
            .items
            .iter()
            .zip(&contents.executables.items)
        {
            assert_eq!(
                (&back.capabilities, back.shell),
                (&item.capabilities, item.shell)
            );
        }
        assert_eq!(back.links, contents.links);
        assert_eq!(back.user, contents.user);
        assert_eq!(unpack("x"), None);
        assert_eq!(unpack("AAAA"), None);
    }
}
