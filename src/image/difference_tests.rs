use super::*;
use crate::fixtures::Tar;
use crate::{LayerSource, Limits};

fn read(layers: &[Vec<u8>]) -> (Image, ImageConfig) {
    let mut image = Image::new(Limits {
        prints: true,
        ..Limits::default()
    });
    for layer in layers {
        image
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    let config = ImageConfig {
        diff_ids: layers.iter().map(|layer| crate::digest_of(layer)).collect(),
        instructions: (1..=layers.len()).map(|n| format!("RUN {n}")).collect(),
        ..ImageConfig::default()
    };
    (image, config)
}

fn compared(before: &[Vec<u8>], after: &[Vec<u8>]) -> Difference {
    let (before, after) = (read(before), read(after));
    compare(
        Side {
            image: &before.0,
            config: &before.1,
        },
        Side {
            image: &after.0,
            config: &after.1,
        },
    )
}

fn told(difference: &Difference) -> Vec<String> {
    let files = difference.files.items.iter();
    files
        .map(|file| {
            format!(
                "{:?} {} {:?}->{:?} {} by {} ({})",
                file.change,
                file.path,
                file.before,
                file.after,
                file.what.join("+"),
                file.layer,
                file.instruction.as_deref().unwrap_or_default()
            )
        })
        .collect()
}

#[test]
fn what_is_added_removed_and_changed_is_blamed_on_its_layer() {
    let base = Tar::new()
        .file("etc/same", 0o644, b"same")
        .file("etc/content", 0o644, b"aaaa")
        .file("etc/mode", 0o644, b"m")
        .file("old/gone", 0o644, b"123")
        .symlink("link", "etc/same")
        .bytes();
    let top = Tar::new()
        .file("etc/content", 0o644, b"bbbb")
        .file("etc/mode", 0o755, b"m")
        .file("old/.wh.gone", 0o644, b"")
        .symlink("link", "etc/mode")
        .file("srv/app", 0o755, &[7; 100])
        .folder("empty", 0o755)
        .bytes();
    let difference = compared(std::slice::from_ref(&base), &[base.clone(), top]);
    assert_eq!(
        told(&difference),
        [
            "Added /srv/app None->Some(100)  by 2 (RUN 2)",
            "Changed /etc/content Some(4)->Some(4) content by 2 (RUN 2)",
            "Removed /old/gone Some(3)->None  by 1 (RUN 1)",
            "Changed /etc/mode Some(1)->Some(1) mode by 2 (RUN 2)",
            "Added /empty None->Some(0)  by 2 (RUN 2)",
            "Changed /link Some(0)->Some(0) target by 2 (RUN 2)",
        ]
    );
    assert_eq!(difference.shared_layers, 1);
    let sum = |files, bytes| Sum { files, bytes };
    assert_eq!(
        difference.totals,
        Totals {
            added: sum(2, 100),
            removed: sum(1, 3),
            changed: sum(3, 5),
            before: 12,
            after: 109,
        }
    );
    assert_eq!(difference.layers.items.len(), 1);
    let share = &difference.layers.items[0];
    assert_eq!(
        (share.layer, share.added, share.changed),
        (2, sum(2, 100), sum(3, 5))
    );
}

#[test]
fn the_same_files_in_other_layers_and_at_other_times_are_no_difference() {
    let one = Tar::new()
        .file("a", 0o644, b"1")
        .file("b", 0o644, b"2")
        .bytes();
    let two = [
        Tar::new().file("b", 0o644, b"2").bytes(),
        Tar::new().file("a", 0o644, b"1").bytes(),
    ];
    let difference = compared(&[one], &two);
    assert!(difference.is_empty(), "{difference:?}");
    assert_eq!(difference.shared_layers, 0);
}

#[test]
fn a_file_in_place_of_a_directory_is_a_changed_type_and_what_was_below_is_removed() {
    let before = Tar::new().file("x/y", 0o644, b"12").bytes();
    let after = Tar::new().file("x", 0o755, b"123").bytes();
    assert_eq!(
        told(&compared(&[before], &[after])),
        [
            "Changed /x Some(0)->Some(3) type by 1 (RUN 1)",
            "Removed /x/y Some(2)->None  by 1 (RUN 1)",
        ]
    );
}

#[test]
fn hard_links_have_the_bytes_of_their_file() {
    let tar = |byte: u8| {
        Tar::new()
            .file("a", 0o644, &[byte; 9])
            .hard_link("b", "a")
            .bytes()
    };
    let difference = compared(&[tar(1)], &[tar(2)]);
    assert_eq!(told(&difference).len(), 2);
    assert_eq!(difference.totals.changed, Sum { files: 2, bytes: 9 });
}

#[test]
fn packages_of_all_databases_are_compared() {
    let image = |libc: &str, more: &str| {
        let status =
            format!("Package: libc6\nStatus: install ok installed\nVersion: {libc}\n\n{more}");
        Tar::new()
            .file("var/lib/dpkg/status", 0o644, status.as_bytes())
            .file(
                "var/lib/dpkg/status.d/tzdata",
                0o644,
                b"Package: tzdata\nVersion: 2025b\n",
            )
            .bytes()
    };
    let difference = compared(
        &[image("2.36-9", "")],
        &[image(
            "2.36-10",
            "Package: curl\nStatus: install ok installed\nVersion: 7\n",
        )],
    );
    let packages = difference.packages.items.iter();
    let told: Vec<_> = packages
        .map(|p| (p.name.as_str(), p.before.as_deref(), p.after.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("curl", None, Some("7")),
            ("libc6", Some("2.36-9"), Some("2.36-10"))
        ]
    );
    assert!(difference.unread_packages.is_empty());
}

#[test]
fn a_database_that_is_not_read_is_named() {
    let tar = Tar::new()
        .file("var/lib/rpm/rpmdb.sqlite", 0o644, b"x")
        .bytes();
    let difference = compared(&[], &[tar]);
    assert_eq!(difference.unread_packages, ["/var/lib/rpm"]);
}

#[test]
fn the_list_is_bounded_and_keeps_the_largest() {
    let mut tar = Tar::new();
    for size in 0..FILES + 50 {
        tar = tar.file(&format!("d/{size:05}"), 0o644, &vec![0; size % 300]);
    }
    let tar = tar.file("d/large", 0o644, &[1; 5000]).bytes();
    let difference = compared(&[], &[tar]);
    assert_eq!(difference.files.items.len(), FILES);
    assert_eq!(difference.files.omitted, 51);
    assert_eq!(difference.files.items[0].path, "/d/large");
    assert_eq!(difference.totals.added.files, FILES as i64 + 51);
}

#[test]
fn what_layers_did_is_noted_where_it_is_asked_for() {
    use crate::Deed;
    let mut image = Image::new(Limits {
        steps: 6,
        ..Limits::default()
    });
    for layer in [
        Tar::new()
            .folder("a", 0o755)
            .file("a/x", 0o644, b"123")
            .file("a/y", 0o644, b"12345")
            .bytes(),
        Tar::new()
            .folder("a", 0o755)
            .file("a/x", 0o644, b"1")
            .file("a/.wh.y", 0o644, b"")
            .file("z", 0o644, b"")
            .bytes(),
        Tar::new().file("late", 0o644, b"").bytes(),
    ] {
        image
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    let steps = image.journal.steps.iter();
    let told: Vec<_> = steps
        .map(|step| {
            let path = image.tree.path(step.id);
            (step.layer, step.deed, path, step.bytes, step.hides)
        })
        .collect();
    assert_eq!(
        told,
        [
            (0, Deed::Added, "/a".into(), 0, 0),
            (0, Deed::Added, "/a/x".into(), 3, 0),
            (0, Deed::Added, "/a/y".into(), 5, 0),
            (1, Deed::Replaced, "/a/x".into(), 1, 3),
            (1, Deed::Removed, "/a/y".into(), 0, 5),
            (1, Deed::Added, "/z".into(), 0, 0),
        ]
    );
    assert_eq!(image.journal.omitted, 1);
}
