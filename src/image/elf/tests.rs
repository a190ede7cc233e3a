use super::*;
use crate::fixtures::{AMD64, ARM64, ElfFile, GLIBC, MUSL};

fn read_held(bytes: &[u8], size: u64, held: usize) -> Result<Elf, ElfFault> {
    read_elf(&mut &bytes[..], size, held, &mut Vec::new()).unwrap()
}

fn read(bytes: &[u8]) -> Result<Elf, ElfFault> {
    read_held(bytes, bytes.len() as u64, 8 << 20)
}

#[test]
fn a_static_program_needs_nothing() {
    let elf = read(&ElfFile::default().bytes()).unwrap();
    assert_eq!(elf.form, Form::Executable);
    assert!(elf.is_static());
    assert_eq!(elf.machine.architecture(), Some("amd64"));
}

#[test]
fn a_static_program_at_any_address_is_known_by_its_mark_or_by_its_entry_point() {
    let mut file = ElfFile {
        kind: elf::ET_DYN,
        flags_1: u64::from(elf::DF_1_PIE),
        ..ElfFile::default()
    };
    assert_eq!(read(&file.bytes()).unwrap().form, Form::PositionIndependent);
    file.flags_1 = 0;
    assert_eq!(read(&file.bytes()).unwrap().form, Form::PositionIndependent);
    file.soname = Some("libx.so.1");
    assert_eq!(read(&file.bytes()).unwrap().form, Form::Library);
}

#[test]
fn a_dynamic_program_names_its_loader_its_libraries_and_its_paths() {
    for interpreter in [GLIBC, MUSL] {
        let file = ElfFile {
            runpath: Some("$ORIGIN/../lib:/opt/lib"),
            rpath: Some("/old"),
            ..ElfFile::program(interpreter, &["libm.so.6", "libc.so.6"])
        };
        let elf = read(&file.bytes()).unwrap();
        assert_eq!(elf.form, Form::PositionIndependent);
        assert_eq!(elf.interpreter.as_deref(), Some(interpreter));
        assert_eq!(elf.needed, ["libm.so.6", "libc.so.6"]);
        assert_eq!(elf.runpath.as_deref(), Some("$ORIGIN/../lib:/opt/lib"));
        assert_eq!(elf.rpath.as_deref(), Some("/old"));
        assert!(!elf.is_static());
    }
}

#[test]
fn the_machine_is_named_as_images_name_it() {
    for (machine, name) in [(AMD64, Some("amd64")), (ARM64, Some("arm64")), (9999, None)] {
        let file = ElfFile {
            machine,
            ..ElfFile::default()
        };
        assert_eq!(read(&file.bytes()).unwrap().machine.architecture(), name);
    }
}

#[test]
fn what_lies_past_the_held_beginning_is_read_as_it_comes() {
    let file = ElfFile {
        gap: 3 << 20,
        strings_last: true,
        tail: vec![0; 1 << 20],
        ..ElfFile::program(GLIBC, &["libc.so.6"])
    };
    let bytes = file.bytes();
    let elf = read_held(&bytes, bytes.len() as u64, 1 << 20).unwrap();
    assert_eq!(elf.needed, ["libc.so.6"]);
    // Strings at the beginning, behind a long name, the dynamic section far behind: as in large programs.
    let long: &'static str = "x".repeat(4000).leak();
    let mut needed = vec![long; 30];
    needed.push("libc.so.6");
    let file = ElfFile {
        gap: 3 << 20,
        ..ElfFile::program(GLIBC, &needed)
    };
    let bytes = file.bytes();
    let elf = read_held(&bytes, bytes.len() as u64, 1 << 20).unwrap();
    assert_eq!(elf.needed.last().map(String::as_str), Some("libc.so.6"));
    let file = ElfFile {
        gap: 3 << 20,
        ..ElfFile::program(GLIBC, &["libc.so.6"])
    };
    let bytes = file.bytes();
    let elf = read_held(&bytes, bytes.len() as u64, 1 << 20).unwrap();
    assert_eq!(elf.needed, ["libc.so.6"]);
}

#[test]
fn strings_that_went_by_make_a_file_too_large_and_are_not_guessed() {
    // The dynamic section lies behind strings that lie behind what is held.
    let mut file = ElfFile {
        gap: 100,
        ..ElfFile::program(GLIBC, &["libc.so.6"])
    }
    .bytes();
    // Move all but the headers: phdr offsets of dynamic and strings shift by a megabyte.
    let shift = 1 << 20;
    let interpreter_end = 64 + 56 * 3 + GLIBC.len() + 1;
    let body = file.split_off(interpreter_end);
    file.resize(interpreter_end + shift, 0);
    file.extend_from_slice(&body);
    let bump = |file: &mut [u8], at: usize| {
        let old = u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
        file[at..at + 8].copy_from_slice(&(old + shift as u64).to_le_bytes());
    };
    bump(&mut file, 64 + 32); // size of PT_LOAD
    bump(&mut file, 64 + 56 + 8); // offset of PT_DYNAMIC
    let strtab = file
        .windows(8)
        .rposition(|word| word == elf::DT_STRTAB.to_le_bytes())
        .unwrap();
    bump(&mut file, strtab + 8);
    assert_eq!(read(&file).unwrap().needed, ["libc.so.6"]);
    assert_eq!(
        read_held(&file, file.len() as u64, 128 << 10),
        Err(ElfFault::TooLarge)
    );
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error_or_still_whole_enough() {
    let file = ElfFile {
        runpath: Some("/opt/lib"),
        versions_needed: vec![("libc.so.6", "GLIBC_2.34")],
        versions: vec!["APP_1"],
        ..ElfFile::program(GLIBC, &["libm.so.6", "libc.so.6"])
    }
    .bytes();
    let whole = read(&file).unwrap();
    for length in 4..file.len() {
        if let Ok(elf) = read(&file[..length]) {
            assert_eq!(elf.needed, whole.needed, "{length}");
        }
        // The tar says more than it has.
        let _ = read_held(&file[..length], file.len() as u64, 8 << 20);
    }
}

#[test]
fn a_file_that_lies_about_any_byte_of_its_headers_panics_nowhere() {
    let file = ElfFile {
        versions_needed: vec![("libc.so.6", "GLIBC_2.34")],
        versions: vec!["APP_1", "APP_2"],
        ..ElfFile::program(GLIBC, &["libc.so.6"])
    }
    .bytes();
    for at in 4..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut lying = file.clone();
            lying[at] = value;
            let _ = read(&lying);
            let end = (at + 8).min(lying.len());
            lying[at..end].fill(0xff);
            let _ = read(&lying);
        }
    }
}

#[test]
fn versions_of_symbols_are_read_also_where_the_tables_lie_further_on() {
    let file = ElfFile {
        versions_needed: vec![("libc.so.6", "GLIBC_2.34"), ("libm.so.6", "GLIBC_2.29")],
        versions: vec!["APP_1", "APP_2"],
        ..ElfFile::program(GLIBC, &["libm.so.6", "libc.so.6"])
    };
    for gap in [0, 100 << 10, 3 << 20] {
        let bytes = ElfFile {
            gap,
            ..file.clone()
        }
        .bytes();
        let elf = read(&bytes).unwrap();
        let needed: Vec<(&str, &str)> = elf
            .versions_needed
            .iter()
            .map(|(library, version)| (library.as_str(), version.as_str()))
            .collect();
        assert_eq!(
            needed,
            [("libc.so.6", "GLIBC_2.34"), ("libm.so.6", "GLIBC_2.29")],
            "{gap}"
        );
        assert_eq!(elf.versions, ["APP_1", "APP_2"]);
    }
    // What went by is not known, and no fault.
    let bytes = ElfFile {
        gap: 3 << 20,
        ..file
    }
    .bytes();
    let elf = read_held(&bytes, bytes.len() as u64, 64 << 10).unwrap();
    assert_eq!(elf.needed.len(), 2);
    assert!(elf.versions.is_empty());
}

#[test]
fn endless_headers_cost_nothing() {
    let mut file = ElfFile::default().bytes();
    file[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(read_held(&file, 1 << 40, 8 << 20).is_err());
}

#[test]
fn the_loader_says_which_directories_it_was_built_to_search() {
    let file = ElfFile {
        tail: b"junk\0x/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0more"
            .to_vec(),
        ..ElfFile::library("ld-linux-x86-64.so.2", &[])
    };
    assert_eq!(
        read(&file.bytes()).unwrap().system_paths,
        [
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/lib",
            "/usr/lib"
        ]
    );
}
