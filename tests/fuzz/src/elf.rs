//! An ELF file that is held whole, and the same that is held in part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whittle_image::{ElfFault, read_elf};

fuzz_target!(|data: &[u8]| {
    let size = data.len() as u64;
    let mut scratch = Vec::new();
    let whole = read_elf(&mut &data[..], size, 1 << 20, &mut scratch).unwrap();
    let part = read_elf(&mut &data[..], size, 64, &mut scratch).unwrap();
    // What is read in parts is the same, or is not judged.
    if let (Ok(whole), Ok(part)) = (&whole, &part) {
        assert_eq!(whole.needed, part.needed);
        assert_eq!(whole.interpreter, part.interpreter);
    }
    assert_ne!(whole, Err(ElfFault::TooLarge));
    // A tar that says more, or less, than there is.
    let _ = read_elf(
        &mut &data[..],
        size.saturating_mul(2),
        1 << 20,
        &mut scratch,
    );
    let _ = read_elf(&mut &data[..], size / 2, 1 << 20, &mut scratch);
});
