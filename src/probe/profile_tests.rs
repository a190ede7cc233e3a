use super::*;
use crate::{ReadBack, fixtures, paths, read_back};
use whittle_image::{Contents, Executable, FolderLink, Runs};

fn image(name: &str, contents: Contents) -> Profiled {
    Profiled {
        image_build: format!("team/{name}"),
        repository: format!("registry.example.com/team/{name}"),
        digest: "sha256:aa".into(),
        versions: vec![":1".into(), "@sha256:aa".into()],
        known: Entry::of(&[contents]).map(Arc::new),
        earlier: vec![],
        fix: None,
        trusted: false,
    }
}

/// The same image, as an ImageBuild of another namespace or name claims it.
fn claimed(image_build: &str, contents: Contents, digest: &str) -> Profiled {
    Profiled {
        image_build: image_build.into(),
        digest: digest.into(),
        versions: vec![":1".into(), format!("@{digest}")],
        ..image("app", contents)
    }
}

fn none() -> BTreeMap<String, usize> {
    BTreeMap::new()
}

fn only(builds: Vec<Profiled>) -> ProbeProfileSpec {
    let all = profiles(builds, &none());
    assert_eq!(all.shards(), [0]);
    all.spec(0)
}

fn bytes(profile: &ProbeProfileSpec) -> usize {
    serde_json::to_vec(profile).unwrap().len()
}

const APP: &str = "registry.example.com/team/app:1";

fn of<'a>(profile: &'a ProbeProfileSpec, reference: &str) -> &'a ProfileImage {
    &profile.images[&profile.references[reference]["team"]]
}

fn has(profile: &ProbeProfileSpec, reference: &str, path: &str) -> bool {
    of(profile, reference)
        .folders
        .get(paths::folder(path))
        .is_some_and(|set| profile.programs[set].contains_key(paths::name(path)))
}

/// Who speaks to each audience: the ImageBuild's name, or nothing.
fn said(profile: &ProbeProfileSpec, reference: &str) -> Vec<(String, String)> {
    let said = profile.references.get(reference).into_iter().flatten();
    said.map(|(audience, id)| {
        let name = profile
            .images
            .get(id)
            .map_or("", |image| &image.image_build);
        (audience.clone(), name.to_owned())
    })
    .collect()
}

fn reason(contents: &[Contents]) -> Reason {
    Entry::of(contents).unwrap_err().reason
}

#[test]
fn every_reference_leads_to_the_programs_of_its_image() {
    let profile = only(vec![image("app", fixtures::debian())]);
    for reference in [APP, "registry.example.com/team/app@sha256:aa"] {
        for (path, expected) in [
            ("/usr/bin/sh", true),
            ("/bin/sh", true),
            ("/app", true),
            ("/usr/bin/curl", false),
            ("/sbin/app", false),
        ] {
            assert_eq!(has(&profile, reference, path), expected, "{path}");
        }
    }
}

#[test]
fn images_with_the_same_base_share_its_programs() {
    let one = only(vec![image("a", fixtures::debian())]);
    let two = only(vec![
        image("a", fixtures::debian()),
        image("b", fixtures::debian()),
    ]);
    assert_eq!(one.programs, two.programs);
    assert_eq!(two.images.len(), 2);
}

#[test]
fn what_cannot_start_is_not_among_the_programs_and_what_is_not_known_is() {
    let profile = only(vec![image(
        "app",
        fixtures::contents(&["/bin/a ! needs libz", "/bin/b ? too large"]),
    )]);
    assert!(!has(&profile, APP, "/bin/a"));
    assert!(of(&profile, APP).lacks_libraries);
    assert!(has(&profile, APP, "/bin/b"));
}

#[test]
fn what_depends_on_capabilities_is_among_the_programs_for_pods_may_add_and_drop_them() {
    for runs in [Runs::No, Runs::Unknown] {
        let mut contents = fixtures::contents(&["/usr/bin/ping"]);
        let program = &mut contents.executables.items[0];
        program.runs = runs;
        program.fault = Some(whittle_image::Fault::Capabilities);
        program.capabilities = vec!["cap_net_raw".into()];
        let profile = only(vec![image("app", contents)]);
        assert!(has(
            &profile,
            "registry.example.com/team/app:1",
            "/usr/bin/ping"
        ));
    }
}

#[test]
fn a_shell_that_may_be_busybox_may_have_applets() {
    for (programs, applets) in [
        (&["/bin/sh"][..], true),
        (&["/bin/busybox"], true),
        (&["/bin/sh -> /bin/dash", "/bin/dash"], false),
        (&["/bin/bash"], false),
    ] {
        let profile = only(vec![image("app", fixtures::contents(programs))]);
        assert_eq!(of(&profile, APP).applets, applets, "{programs:?}");
    }
}

#[test]
fn where_a_program_may_get_what_it_lacks_is_known() {
    let mut contents = fixtures::contents(&["/check # /opt/shell/sh"]);
    contents.executables.items[0].runs = Runs::No;
    let profile = only(vec![image("app", contents)]);
    assert!(of(&profile, APP).folders.contains_key("/opt/shell"));
    assert!(!has(&profile, APP, "/check"));
}

#[test]
fn an_image_that_was_not_read_as_a_whole_is_left_out_and_told_of() {
    let mut contents = fixtures::scratch();
    contents.executables.omitted = 1;
    let all = profiles(vec![image("app", contents)], &none());
    assert!(all.shards().is_empty());
    let (known, reason, message) = all.told(0).unwrap();
    assert!(!known && reason == Reason::TooManyPrograms, "{message}");
}

#[test]
fn a_program_of_one_platform_counts() {
    let mut both = image("app", fixtures::scratch());
    let contents = [fixtures::scratch(), fixtures::contents(&["/app", "/other"])];
    both.known = Entry::of(&contents).map(Arc::new);
    let profile = only(vec![both]);
    assert!(has(&profile, APP, "/other"));
    let set = &profile.programs[&of(&profile, APP).folders["/"]];
    assert_eq!(
        (set["/other".trim_start_matches('/')], set["app"]),
        (false, true)
    );
}

#[test]
fn images_of_dockers_registry_are_known_by_all_their_names() {
    let mut tool = image("tool", fixtures::scratch());
    tool.repository = "tool".into();
    let profile = only(vec![tool]);
    for name in [
        "tool:1",
        "library/tool:1",
        "docker.io/library/tool:1",
        "docker.io/tool:1",
    ] {
        assert!(has(&profile, name, "/app"), "{name}");
    }
}

#[test]
fn forty_links_to_the_root_take_no_more_than_their_names() {
    let mut contents = fixtures::alpine();
    contents.links.items = (0..40)
        .map(|number| FolderLink {
            path: format!("/l{number}"),
            folder: "/".into(),
        })
        .collect();
    let profile = only(vec![image("app", contents)]);
    assert!(bytes(&profile) < 4000, "{}", bytes(&profile));
    let image = of(&profile, APP);
    assert_eq!(image.open.len(), 40);
    assert!(has(&profile, APP, "/bin/sh") && !has(&profile, APP, "/bin/curl"));
}

#[test]
fn a_directory_of_path_behind_an_open_link_is_listed_by_that_name() {
    let mut contents = fixtures::contents(&["/host/ -> /", "/bin/tool"]);
    contents.env_path = Some("/host/bin:/usr/bin".into());
    let profile = only(vec![image("app", contents)]);
    assert!(has(&profile, APP, "/host/bin/tool"));
}

#[test]
fn what_is_too_much_is_not_known_and_says_which() {
    let deep = format!("/{}", vec!["a".repeat(200); 19].join("/"));
    let paths: Vec<String> = (0..950)
        .map(|number| format!("{deep}/d{number}/x"))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(reason(&[fixtures::contents(&paths)]), Reason::TooLarge);
    let mut many = fixtures::scratch();
    many.executables.items = vec![Executable::default(); 1001];
    assert_eq!(reason(&[many]), Reason::TooManyPrograms);
    let mut ladder = fixtures::contents(&["/d40/x"]);
    for rung in 0..40 {
        for side in ["x", "y"] {
            ladder.links.items.push(FolderLink {
                path: format!("/d{rung}/{side}"),
                folder: format!("/d{}", rung + 1),
            });
        }
    }
    assert_eq!(reason(&[ladder]), Reason::TooManyLinks);
    assert_eq!(reason(&[]), Reason::NoReport);
    assert_eq!(
        Entry::of_packed([Some("x")]).unwrap_err().reason,
        Reason::NoReport
    );
}

#[test]
fn hostile_reports_are_judged_in_a_moment() {
    let hundred = |path: &dyn Fn(usize) -> String, folder: &dyn Fn(usize) -> String| {
        let link = |number| FolderLink {
            path: path(number),
            folder: folder(number),
        };
        (0..100).map(link).collect::<Vec<_>>()
    };
    let deep = "/d".repeat(200);
    let programs: Vec<String> = (0..1000)
        .map(|number| format!("{deep}{}/p{number}", number % 100))
        .collect();
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    for links in [
        hundred(&|n| format!("/l{n}"), &|_| "/".into()),
        hundred(&|n| format!("/l{n}"), &|n| format!("/l{}", n + 1)),
        hundred(&|n| format!("{deep}{n}"), &|n| format!("{deep}{}", n + 1)),
        hundred(&|n| format!("/l{n}"), &|n| deep[..2 * n + 2].to_owned()),
        hundred(&|n| format!("{deep}{n}/x"), &|n| format!("{deep}{}", n + 1)),
    ] {
        let mut contents = fixtures::contents(&programs);
        contents.links.items = links;
        let begun = std::time::Instant::now();
        let entry = Entry::of(&vec![contents; 8]);
        if let Ok(entry) = &entry {
            assert!(entry.json.len() <= 200_000, "{}", entry.json.len());
        }
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    }
}

#[test]
fn thousands_of_images_take_few_objects_of_a_bounded_size_and_fewer_again() {
    let images: Vec<Profiled> = (0..4000)
        .map(|number| {
            let mut image = image(&format!("app-{number}"), fixtures::debian());
            image.image_build = format!("team-{}/app-{number}", number % 40);
            image.versions = vec![":latest".into(), format!("@sha256:{number:064}")];
            image
        })
        .collect();
    let all = profiles(images.clone(), &none());
    let count = all.shards().len();
    assert!((2..=8).contains(&count), "{count}");
    for shard in all.shards() {
        assert!(
            bytes(&all.spec(shard)) <= SHARD_BYTES,
            "{}",
            bytes(&all.spec(shard))
        );
    }
    // What is there stays where it is, also when some are gone; and few need one object again.
    let some = profiles(images[..3000].to_vec(), &all.places());
    for (build, place) in some.places() {
        assert_eq!(all.places()[&build], place);
    }
    assert_eq!(profiles(images[..10].to_vec(), &all.places()).shards(), [0]);
}

#[test]
fn one_namespace_does_not_take_the_room_of_others() {
    let large = |number: usize| {
        let paths: Vec<String> = (0..900)
            .map(|program| format!("/opt/{number}-{}/x-{program}", "p".repeat(100)))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut image = image(&format!("large-{number}"), fixtures::contents(&paths));
        image.image_build = format!("hostile/large-{number}");
        image
    };
    let deep = |number: usize| {
        let paths: Vec<String> = (0..900)
            .map(|program| format!("/opt/{number}/{program}-{}/x", "p".repeat(100)))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        Profiled {
            known: Entry::of(&[fixtures::contents(&paths)]).map(Arc::new),
            ..large(number)
        }
    };
    let mut images: Vec<Profiled> = (0..60).map(deep).collect();
    images.push(image("app", fixtures::debian()));
    let all = profiles(images, &none());
    assert!(all.shards().len() <= 5, "{:?}", all.shards());
    let place = all.places()["team/app"];
    assert!(has(&all.spec(place), APP, "/usr/bin/sh"));
    assert!((0..60).any(|at| all.told(at).is_none()));
    assert!((0..60).any(|at| all.told(at).is_some_and(|told| told.1 == Reason::TooLarge)));
    assert_eq!(all.told(60), None);
}

fn earlier(version: &str, contents: Contents) -> Earlier {
    Earlier {
        version: version.into(),
        entry: Arc::new(Entry::of(&[contents]).unwrap()),
        fix: None,
    }
}

#[test]
fn an_earlier_digest_keeps_what_was_known_of_it_while_the_tag_moves_on() {
    let mut next = image("app", fixtures::scratch());
    next.versions = vec![":1".into(), "@sha256:bb".into()];
    next.earlier = vec![earlier("@sha256:aa", fixtures::debian())];
    let profile = only(vec![next]);
    let name = |version: &str| format!("registry.example.com/team/app{version}");
    assert!(has(&profile, &name("@sha256:aa"), "/usr/bin/sh"));
    assert!(!has(&profile, &name(":1"), "/usr/bin/sh"));
    assert!(!has(&profile, &name("@sha256:bb"), "/usr/bin/sh"));
    assert_eq!(profile.references.len(), 3);
}

#[test]
fn what_stands_in_a_profile_is_read_back() {
    let mut app = image("app", fixtures::debian());
    app.fix = Some("tcpSocket 80".into());
    let profile = only(vec![app.clone()]);
    // By its tag, by its digest, in its namespace and elsewhere: once.
    let [back]: [ReadBack; 1] = read_back(&profile, |_, _| true).try_into().unwrap();
    assert_eq!(Ok(Arc::new(back.entry)), app.known);
    assert_eq!((back.image_build.as_str(), back.fix), ("team/app", app.fix));
    assert_eq!(back.digest, app.digest);
    let wanted =
        |image_build: &str, digest: &str| image_build == "team/app" && digest == "sha256:00";
    assert_eq!(read_back(&profile, wanted), []);
}

#[test]
fn of_fifty_earlier_images_with_the_same_programs_the_programs_are_read_back_once() {
    let names = (0..1000u64).map(|n| {
        let text = |at: u64| ['a', 'b'][(n * 7919 + at * 104_729 + n * at * 31) as usize / 7 % 2];
        (0..180).map(text).collect::<String>() + &n.to_string()
    });
    let names: Vec<String> = names.map(|name| format!("/bin/{name}")).collect();
    let contents = fixtures::contents(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut app = image("app", contents);
    let entry = app.known.clone().unwrap();
    app.earlier = (0..50)
        .map(|n| Earlier {
            version: format!("@sha256:{n:02}"),
            entry: entry.clone(),
            fix: None,
        })
        .collect();
    let back = read_back(&only(vec![app]), |_, _| true);
    assert_eq!(back.len(), 51);
    let set = &back[0].entry.sets[0];
    assert!(
        back.iter()
            .all(|back| Arc::ptr_eq(&back.entry.sets[0], set))
    );
}

#[test]
fn an_image_build_speaks_in_its_namespace_and_warns_elsewhere_unless_it_is_trusted() {
    let profile = only(vec![image("app", fixtures::scratch())]);
    assert_eq!(
        said(&profile, APP),
        [
            ("?".into(), "team/app".into()),
            ("team".into(), "team/app".into())
        ]
    );
    let mut trusted = image("app", fixtures::scratch());
    trusted.trusted = true;
    let others = claimed("other/app", fixtures::debian(), "sha256:bb");
    // Nobody takes a trusted word away; in its own namespace the other one speaks.
    let profile = only(vec![trusted, others]);
    assert_eq!(
        said(&profile, APP),
        [
            ("*".into(), "team/app".into()),
            ("other".into(), "other/app".into()),
            ("team".into(), "team/app".into())
        ]
    );
}

#[test]
fn of_two_that_do_not_agree_none_speaks_at_their_level_and_both_say_so() {
    let mine = image("app", fixtures::scratch());
    let other = claimed("team/other", fixtures::debian(), "sha256:bb");
    let all = profiles(vec![mine.clone(), other], &none());
    assert_eq!(said(&all.spec(0), APP), []);
    // By their digests they are known still.
    assert!(has(
        &all.spec(0),
        "registry.example.com/team/app@sha256:aa",
        "/app"
    ));
    for at in 0..2 {
        let (known, reason, message) = all.told(at).unwrap();
        assert!(
            !known && reason == Reason::ClaimedTwice && message.contains(APP),
            "{message}"
        );
    }
    // With the same contents they agree.
    let same = claimed("team/other", fixtures::scratch(), "sha256:bb");
    let all = profiles(vec![mine.clone(), same], &none());
    assert!(has(&all.spec(0), APP, "/app"));
    assert_eq!((all.told(0), all.told(1)), (None, None));
    // Another namespace takes nothing from what is said in this one.
    let hostile = claimed("hostile/app", fixtures::debian(), "sha256:bb");
    let all = profiles(vec![mine, hostile], &none());
    assert_eq!(
        said(&all.spec(0), APP),
        [
            ("hostile".into(), "hostile/app".into()),
            ("team".into(), "team/app".into())
        ]
    );
    let (known, reason, message) = all.told(0).unwrap();
    assert!(
        known && reason == Reason::ClaimedElsewhere && !message.contains("hostile"),
        "{message}"
    );
    assert_eq!(all.speakers().of(APP, "team"), Some("team/app"));
    assert_eq!(all.speakers().of(APP, "hostile"), Some("hostile/app"));
    assert_eq!(all.speakers().of(APP, "third"), None);
}

#[test]
fn two_trusted_namespaces_that_do_not_agree_say_nothing_elsewhere() {
    let one = Profiled {
        trusted: true,
        ..image("app", fixtures::scratch())
    };
    let other = Profiled {
        trusted: true,
        ..claimed("other/app", fixtures::debian(), "sha256:bb")
    };
    let all = profiles(vec![one, other], &none());
    let words = said(&all.spec(0), APP);
    assert!(
        words.iter().all(|(audience, _)| audience != "*"),
        "{words:?}"
    );
    assert_eq!(all.speakers().of(APP, "third"), None);
    assert_eq!(all.told(0).unwrap().1, Reason::ClaimedElsewhere);
}

#[test]
fn an_image_that_is_not_known_silences_what_others_say_in_its_namespace() {
    let mut contents = fixtures::scratch();
    contents.partial = true;
    let mine = claimed("mine/app", contents, "sha256:bb");
    let trusted = Profiled {
        trusted: true,
        ..image("app", fixtures::scratch())
    };
    // In whatever order they come.
    for builds in [vec![mine.clone(), trusted.clone()], vec![trusted, mine]] {
        let profile = only(builds);
        assert_eq!(profile.references[APP]["mine"], "");
        assert_eq!(said(&profile, APP)[0], ("*".into(), "team/app".into()));
    }
}

#[test]
fn a_word_in_another_object_is_not_taken_for_nobodys() {
    let places = BTreeMap::from([("team/app".to_owned(), 0), ("other/app".to_owned(), 1)]);
    // Both objects well filled, so that they are kept.
    let mut builds = vec![
        image("app", fixtures::scratch()),
        claimed("other/app", fixtures::scratch(), "sha256:aa"),
    ];
    let mut places = places;
    for number in 0..4000 {
        let mut more = image(&format!("app-{number}"), fixtures::scratch());
        more.image_build = format!("team-{}/app-{number}", number % 40);
        places.insert(more.image_build.clone(), number % 2);
        builds.push(more);
    }
    let all = profiles(builds, &places);
    assert!(all.places()["team/app"] != all.places()["other/app"]);
    let first = all.spec(all.places()["team/app"]);
    let second = all.spec(all.places()["other/app"]);
    let words = |profile: &ProbeProfileSpec| said(profile, APP);
    let team = || "team/app".to_owned();
    assert_eq!(
        words(&first),
        [
            ("?".into(), team()),
            ("other".into(), String::new()),
            ("team".into(), team())
        ]
    );
    // Nothing for all others stands there, so that nobody has to be kept from hearing it.
    assert_eq!(words(&second), [("other".into(), "other/app".to_owned())]);
}

#[test]
fn a_reference_that_very_many_namespaces_claim_is_told_to_none_besides() {
    let builds =
        (0..40).map(|number| claimed(&format!("n{number}/app"), fixtures::scratch(), "sha256:aa"));
    let profile = only(builds.collect());
    let words = said(&profile, APP);
    assert_eq!(words.len(), 40);
    assert!(
        words
            .iter()
            .all(|(audience, build)| build.starts_with(audience)),
        "{words:?}"
    );
}
