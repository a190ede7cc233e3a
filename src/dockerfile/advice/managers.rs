//! What is known of package managers: which of their commands leave a cache, where, and what takes it away.

use super::shell::Command;

/// A package manager and its cache.
pub(super) struct Manager {
    pub(super) name: &'static str,
    programs: &'static [&'static str],
    /// Options whose value is a word of its own.
    valued: &'static [&'static str],
    /// What leaves something, by its first words; an empty list is the bare program.
    leaves: &'static [&'static [&'static str]],
    /// With an option that begins so, nothing is left, or it is elsewhere.
    off: &'static [&'static str],
    /// Variables that say where the cache is, or that there is none.
    pub(super) env: &'static [&'static str],
    /// Parts of the paths of its cache, in mounts and in what is removed.
    pub(super) paths: &'static [&'static str],
    /// Its own commands that take the cache away, or say where it is.
    cleans: &'static [&'static [&'static str]],
    /// Place and fix.
    pub(super) text: &'static str,
}

const DNF_VALUED: &[&str] = &[
    "-c",
    "-d",
    "-e",
    "-x",
    "--config",
    "--enablerepo",
    "--disablerepo",
    "--repo",
    "--repoid",
    "--releasever",
    "--setopt",
    "--exclude",
    "--disableplugin",
    "--enableplugin",
    "--installroot",
    "--forcearch",
];
pub(super) const NODE_VALUED: &[&str] = &[
    "--prefix",
    "-C",
    "--dir",
    "--cwd",
    "--registry",
    "--cache",
    "--loglevel",
    "--omit",
    "--include",
    "--workspace",
    "-w",
    "--filter",
    "-F",
    "--userconfig",
    "--network-timeout",
    "--network-concurrency",
    "--mutex",
    "--modules-folder",
    "--cache-folder",
    "--store-dir",
    "--reporter",
];
pub(super) const PIP_VALUED: &[&str] = &[
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--trusted-host",
    "--timeout",
    "--retries",
    "--proxy",
    "--cache-dir",
    "-c",
    "--constraint",
    "-t",
    "--target",
    "--prefix",
    "--root",
    "-w",
    "--wheel-dir",
    "-d",
    "--dest",
    "--progress-bar",
    "--no-binary",
    "--only-binary",
    "--python",
    "-m",
    "-W",
    "-X",
    "--log",
];

pub(super) const MANAGERS: [Manager; 16] = [
    Manager {
        name: "apt",
        programs: &["apt-get", "apt", "aptitude"],
        valued: &[
            "-o",
            "-c",
            "-t",
            "-a",
            "--option",
            "--config-file",
            "--target-release",
            "--default-release",
            "--host-architecture",
        ],
        // The lists come with the update; an install alone adds none.
        leaves: &[&["update"]],
        off: &["--print-uris", "--help"],
        env: &[],
        paths: &["lib/apt", "/var/lib/{", "/var/lib/*"],
        cleans: &[&["dist-clean"], &["distclean"]],
        text: "`apt-get update` leaves its package lists in the layer: end the same RUN with `rm -rf \
               /var/lib/apt/lists/*`",
    },
    Manager {
        name: "apk",
        programs: &["apk"],
        valued: &[
            "-t",
            "--virtual",
            "-X",
            "--repository",
            "--repositories-file",
            "--arch",
            "--keys-dir",
            "--wait",
            "--cache-max-age",
        ],
        leaves: &[&["add"], &["upgrade"], &["update"], &["fix"]],
        off: &["--no-cache", "-p", "--root", "--cache-dir", "--no-network"],
        env: &[],
        paths: &["/var/cache", "apk/cache", "cache/apk"],
        cleans: &[&["cache", "clean"], &["cache", "purge"]],
        text: "`apk` leaves its package index in the layer: write `apk add --no-cache`, which needs no `apk \
               update`",
    },
    Manager {
        name: "dnf",
        programs: &["dnf", "dnf5", "dnf-3", "yum", "microdnf", "tdnf"],
        valued: DNF_VALUED,
        leaves: &[
            &["install"],
            &["in"],
            &["update"],
            &["upgrade"],
            &["up"],
            &["groupinstall"],
            &["group", "install"],
            &["localinstall"],
            &["reinstall"],
            &["swap"],
            &["distro-sync"],
            &["dist-upgrade"],
            &["makecache"],
            &["builddep"],
            &["module", "install"],
        ],
        off: &["--installroot", "--help", "--version"],
        env: &[],
        paths: &[
            "/var/cache",
            "cache/dnf",
            "cache/yum",
            "cache/libdnf5",
            "cache/tdnf",
        ],
        cleans: &[
            &["clean", "all"],
            &["clean", "metadata"],
            &["clean", "dbcache"],
        ],
        text: "dnf and yum leave their metadata in the layer: end the same RUN with `dnf clean all` (or `yum \
               clean all`, `microdnf clean all`, `tdnf clean all`)",
    },
    Manager {
        name: "zypper",
        programs: &["zypper"],
        valued: &[
            "-R",
            "--root",
            "-c",
            "--config",
            "-p",
            "--plus-repo",
            "-r",
            "--repo",
            "--installroot",
        ],
        leaves: &[
            &["install"],
            &["in"],
            &["update"],
            &["up"],
            &["patch"],
            &["dist-upgrade"],
            &["dup"],
            &["refresh"],
            &["ref"],
        ],
        off: &["--root", "-R", "--installroot", "--help"],
        env: &[],
        paths: &["/var/cache", "cache/zypp"],
        cleans: &[&["clean"], &["cc"]],
        text: "zypper leaves its metadata and packages in the layer: end the same RUN with `zypper clean --all`",
    },
    Manager {
        name: "pacman",
        programs: &["pacman"],
        valued: &["-r", "--root", "-b", "--dbpath", "--cachedir", "--config"],
        leaves: &[&["-S"]],
        off: &["--root", "-r", "--cachedir", "-b", "--dbpath"],
        env: &[],
        paths: &["/var/cache", "pacman/pkg"],
        cleans: &[&["-Sc"], &["-Scc"], &["--clean"]],
        text: "pacman leaves the packages that it has downloaded in the layer: end the same RUN with `rm -rf \
               /var/cache/pacman/pkg/*`",
    },
    Manager {
        name: "pip",
        programs: &["pip"],
        valued: PIP_VALUED,
        leaves: &[&["install"], &["wheel"], &["download"]],
        // Any beginning of --no-cache-dir that is no other option's.
        off: &[
            "--no-ca",
            "--no-index",
            "--cache-dir",
            "--dry-run",
            "--help",
            "--version",
        ],
        env: &["PIP_NO_CACHE_DIR", "PIP_CACHE_DIR"],
        paths: &[".cache", "cache/pip", "pip-cache", "/pip"],
        cleans: &[&["cache", "purge"], &["cache", "remove"], &["cache", "dir"]],
        text: "`pip install` leaves its download cache in the layer: add --no-cache-dir, or \
               --mount=type=cache,target=/root/.cache/pip to the RUN",
    },
    Manager {
        name: "pipenv",
        programs: &["pipenv"],
        valued: &["--python", "--categories", "-i", "--index"],
        leaves: &[&["install"], &["sync"], &["update"]],
        off: &["--clear", "--help", "--version"],
        env: &["PIP_NO_CACHE_DIR", "PIP_CACHE_DIR", "PIPENV_CACHE_DIR"],
        paths: &[".cache", "cache/pip"],
        cleans: &[&["--clear"]],
        text: "`pipenv` leaves its download cache in the layer: set PIP_NO_CACHE_DIR=1 for it, or add \
               --mount=type=cache,target=/root/.cache to the RUN",
    },
    Manager {
        name: "poetry",
        programs: &["poetry"],
        valued: &[
            "-C",
            "--directory",
            "-P",
            "--project",
            "--only",
            "--with",
            "--without",
            "-E",
            "--extras",
        ],
        leaves: &[&["install"], &["add"], &["update"], &["sync"]],
        off: &["--no-cache", "--dry-run", "--help", "--version"],
        env: &["POETRY_CACHE_DIR", "POETRY_NO_CACHE"],
        paths: &[".cache", "pypoetry"],
        cleans: &[&["cache", "clear"]],
        text: "`poetry` leaves its download cache in the layer: end the same RUN with `rm -rf \
               ~/.cache/pypoetry`, or add --mount=type=cache,target=/root/.cache/pypoetry to it",
    },
    Manager {
        name: "uv",
        programs: &["uv"],
        valued: &[
            "--directory",
            "--project",
            "--extra",
            "--group",
            "-p",
            "--python",
            "--cache-dir",
        ],
        leaves: &[
            &["sync"],
            &["add"],
            &["pip", "install"],
            &["pip", "sync"],
            &["tool", "install"],
        ],
        off: &["--no-cache", "-n", "--cache-dir", "--offline", "--help"],
        env: &["UV_NO_CACHE", "UV_CACHE_DIR"],
        paths: &[".cache", "cache/uv"],
        cleans: &[&["cache", "clean"], &["cache", "prune"], &["cache", "dir"]],
        text: "`uv` leaves its download cache in the layer: add --no-cache, or \
               --mount=type=cache,target=/root/.cache/uv to the RUN",
    },
    Manager {
        name: "conda",
        programs: &["conda", "mamba", "micromamba"],
        valued: &[
            "-n",
            "--name",
            "-p",
            "--prefix",
            "-c",
            "--channel",
            "-f",
            "--file",
        ],
        leaves: &[
            &["install"],
            &["create"],
            &["update"],
            &["upgrade"],
            &["env", "create"],
            &["env", "update"],
        ],
        off: &["--dry-run", "--help"],
        env: &["CONDA_PKGS_DIRS"],
        paths: &["pkgs"],
        cleans: &[&["clean"]],
        text: "conda leaves the packages that it has downloaded in the layer: end the same RUN with `conda clean \
               -afy` (or `mamba clean -afy`, `micromamba clean -afy`)",
    },
    Manager {
        name: "npm",
        programs: &["npm"],
        valued: NODE_VALUED,
        leaves: &[
            &["ci"],
            &["clean-install"],
            &["install-clean"],
            &["install"],
            &["i"],
            &["add"],
            &["update"],
            &["up"],
        ],
        off: &[
            "--cache",
            "--dry-run",
            "--package-lock-only",
            "--help",
            "--version",
        ],
        env: &["npm_config_cache"],
        paths: &[".npm", "_cacache", "npm-cache"],
        cleans: &[
            &["cache", "clean"],
            &["cache", "rm"],
            &["config", "get", "cache"],
        ],
        text: "npm leaves its download cache in the layer: end the same RUN with `npm cache clean --force`, or \
               add --mount=type=cache,target=/root/.npm to it",
    },
    Manager {
        name: "yarn",
        programs: &["yarn", "yarnpkg"],
        valued: NODE_VALUED,
        leaves: &[&[], &["install"], &["add"], &["global", "add"]],
        // --immutable is of Yarn 2 and later, whose cache may be what the program runs from.
        off: &[
            "--cache-folder",
            "--immutable",
            "--offline",
            "--version",
            "-v",
            "--help",
            "-h",
        ],
        env: &[
            "YARN_CACHE_FOLDER",
            "YARN_ENABLE_GLOBAL_CACHE",
            "YARN_GLOBAL_FOLDER",
        ],
        paths: &[".cache", "cache/yarn", "yarn/cache", ".yarn", "yarn"],
        cleans: &[&["cache", "clean"], &["cache", "dir"]],
        text: "yarn leaves its download cache in the layer: end the same RUN with `yarn cache clean`, or add \
               --mount=type=cache,target=/usr/local/share/.cache to it",
    },
    Manager {
        name: "pnpm",
        programs: &["pnpm"],
        valued: NODE_VALUED,
        leaves: &[
            &["install"],
            &["i"],
            &["add"],
            &["fetch"],
            &["update"],
            &["up"],
        ],
        off: &[
            "--store-dir",
            "--offline",
            "--lockfile-only",
            "--version",
            "--help",
        ],
        env: &["npm_config_store_dir", "PNPM_STORE_DIR", "PNPM_STORE_PATH"],
        paths: &["pnpm"],
        cleans: &[&["store", "prune"], &["store", "path"]],
        text: "pnpm leaves its store in the layer: add --mount=type=cache,target=/pnpm/store to the RUN and \
               --store-dir=/pnpm/store to the command, or install in another stage",
    },
    Manager {
        name: "bun",
        programs: &["bun"],
        valued: NODE_VALUED,
        leaves: &[&["install"], &["i"], &["add"]],
        off: &["--no-cache", "--cache-dir", "--version", "--help"],
        env: &["BUN_INSTALL_CACHE_DIR"],
        paths: &[".bun", "bun/install"],
        cleans: &[&["pm", "cache"]],
        text: "bun leaves its download cache in the layer: end the same RUN with `rm -rf ~/.bun/install/cache`, \
               or add --mount=type=cache,target=/root/.bun/install/cache to it",
    },
    Manager {
        name: "bundle",
        programs: &["bundle", "bundler"],
        valued: &[
            "-j",
            "--jobs",
            "--retry",
            "--gemfile",
            "--path",
            "--without",
            "--with",
        ],
        leaves: &[&[], &["install"], &["update"]],
        off: &["--local", "--version", "-v", "--help", "-h"],
        env: &[],
        paths: &["cache", ".gem", "bundle", "/gems"],
        cleans: &[],
        text: "`bundle install` leaves the gems' archives in the layer: end the same RUN with `rm -rf \
               /usr/local/bundle/cache` (with a BUNDLE_PATH: `\"${BUNDLE_PATH}\"/ruby/*/cache`)",
    },
    Manager {
        name: "composer",
        programs: &["composer", "composer.phar"],
        valued: &["-d", "--working-dir"],
        leaves: &[
            &["install"],
            &["i"],
            &["update"],
            &["require"],
            &["create-project"],
            &["global", "require"],
        ],
        off: &["--no-cache", "--dry-run", "--help", "--version"],
        env: &["COMPOSER_CACHE_DIR"],
        paths: &[".composer", ".cache", "composer/cache", "/tmp"],
        cleans: &[&["clear-cache"], &["clearcache"], &["cc"]],
        text: "`composer` leaves its download cache in the layer: add --no-cache, or \
               --mount=type=cache,target=/tmp/cache and COMPOSER_CACHE_DIR=/tmp/cache to the RUN",
    },
];

/// True for `pip`, `pip3`, `pip3.12`.
fn is_pip(program: &str) -> bool {
    program.strip_prefix("pip").is_some_and(|version| {
        version.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !version.starts_with('.')
    })
}

/// The command under the name that the manager has alone: `python3 -m pip` is `pip`.
pub(super) fn plainly(command: &Command) -> Command {
    let module = command.words.iter().position(|word| word == "-m");
    let words = match module {
        Some(at)
            if command
                .words
                .get(at + 1)
                .is_some_and(|m| m == "pip" || m == "uv" || m == "pipenv" || m == "poetry") =>
        {
            command.words[at + 1..].to_vec()
        }
        _ if is_pip(command.program()) => {
            let mut words = command.words.clone();
            words[0] = "pip".into();
            words
        }
        _ if command.program() == "php"
            && command.words.get(1).is_some_and(|w| w.contains("composer")) =>
        {
            let mut words = command.words[1..].to_vec();
            words[0] = "composer".into();
            words
        }
        _ => return command.clone(),
    };
    Command {
        words,
        ..command.clone()
    }
}

impl Manager {
    pub(super) fn is(&self, command: &Command) -> bool {
        self.programs.contains(&command.program())
    }

    /// True where the command leaves something, as far as it stands alone.
    pub(super) fn leaves(&self, command: &Command) -> bool {
        if !self.is(command) || command.has_option(self.off) {
            return false;
        }
        if self.name == "pacman" {
            return command.args().any(|word| {
                word == "--sync"
                    || (word.starts_with("-S") && !word.contains(['c', 's', 'i', 'g', 'l']))
            });
        }
        let words = command.words_but(self.valued);
        let begins = |form: &&[&str]| match form {
            [] => words.is_empty(),
            form => words.starts_with(form),
        };
        // `apk -X address add`, `dnf -x name install`: a value that is not known as one stands before the verb.
        let stray = self.name == "apk" && words.contains(&"add");
        stray || self.leaves.iter().any(begins)
    }

    /// True where it is the manager's own command that takes the cache away.
    pub(super) fn cleans(&self, command: &Command) -> bool {
        self.is(command)
            && self.cleans.iter().any(|form| {
                form.iter().all(|wanted| {
                    command.args().any(|word| {
                        word == *wanted || (*wanted == "-Scc" && word.starts_with("-Scc"))
                    })
                })
            })
    }
}
