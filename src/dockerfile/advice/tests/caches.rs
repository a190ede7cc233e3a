//! Caches of package managers.

use super::*;

#[test]
fn a_package_cache_in_a_layer_of_the_image_is_hinted_at() {
    for (run, line, fix) in [
        (
            "apt-get update && apt-get install -y curl",
            2,
            "/var/lib/apt/lists",
        ),
        (
            "set -e; \\\n  apt-get update; apt-get clean",
            3,
            "/var/lib/apt/lists",
        ),
        ("apk add curl", 2, "--no-cache"),
        ("apk add -U curl", 2, "--no-cache"),
        ("pip install flask", 2, "--no-cache-dir"),
        ("python3 -m pip install flask", 2, "--no-cache-dir"),
        ("npm ci", 2, "npm cache clean"),
        ("dnf -y install curl", 2, "clean all"),
        ("<<EOF\nyum install -y curl\nEOF", 3, "clean all"),
        (
            "--mount=type=cache,target=/var/cache/apt apt-get update && apt-get install -y curl",
            2,
            "/var/lib/apt/lists",
        ),
    ] {
        let hint = one(&format!("FROM a@@\nRUN {run}\n"));
        assert_eq!(
            (hint.kind, hint.line),
            (K::PackageCacheInLayer, Some(line)),
            "{run}"
        );
        assert!(hint.message.contains(fix), "{}", hint.message);
    }
    // It stays where the lists were made, however clean the next layer is.
    let text =
        "FROM a@@\nRUN apt-get update\nRUN apt-get install -y x && rm -rf /var/lib/apt/lists/*\n";
    assert_eq!(kinds(text), [(K::PackageCacheInLayer, Some(2))]);
    // In the image's own line of stages.
    let text = "FROM a@@ AS base\nRUN apk add curl\nFROM base\n";
    assert_eq!(kinds(text), [(K::PackageCacheInLayer, Some(2))]);
}

#[test]
fn what_leaves_no_cache_in_the_image_is_not_hinted_at() {
    for run in [
        "apt-get update && apt-get install -y curl && rm -rf /var/lib/apt/lists/*",
        "apt-get update && apt-get install -y curl && apt-get clean && rm -rf /var/lib/apt/*",
        "apt-get update \\\n && apt-get install -y curl \\\n # clean\n && rm -r /var/lib/apt/lists",
        "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt \
         apt-get update && apt-get install -y curl",
        "--mount=type=tmpfs,target=/var/lib/apt/lists apt-get update && apt-get install -y curl",
        "apt-get install -y curl",
        "apk add --no-cache curl",
        "apk --no-cache add curl",
        "apk add curl && rm -rf /var/cache/apk/*",
        "--mount=type=cache,target=/var/cache/apk apk add curl",
        "apk upgrade --no-cache && apk info",
        "pip install --no-cache-dir flask",
        "PIP_NO_CACHE_DIR=1 pip install flask",
        "--mount=type=cache,target=/root/.cache/pip pip install flask",
        "pip install flask && pip cache purge",
        "pip install --no-index --find-links=/wheels flask",
        "pip install /wheels/*.whl",
        "pip freeze",
        "npm ci && npm cache clean --force",
        "--mount=type=cache,target=/root/.npm npm ci",
        "npm run build && npm test",
        "dnf install -y curl && dnf clean all",
        "yum -y install curl && rm -rf /var/cache/yum",
        "dnf --installroot=/out install -y x",
        "echo apt-get update",
        "echo 'apk add x' > /note",
        "cat <<'EOF' > /x.sh\napt-get update\nEOF",
    ] {
        silent(&[&format!("FROM a@@\nRUN {run}\n")]);
    }
    silent(&[
        "FROM a@@ AS build\nRUN apt-get update && apt-get install -y gcc && apk add x && npm ci\n\
         FROM b@@\nCOPY --from=build /app /app",
        "FROM a@@\nENV PIP_NO_CACHE_DIR=1\nRUN pip install flask",
        "FROM a@@\nARG PIP_NO_CACHE_DIR=1\nRUN pip install flask",
        "FROM a@@\nENV npm_config_cache=/tmp/npm\nRUN npm ci",
        "FROM a@@\nONBUILD RUN apk add curl",
    ]);
}

#[test]
fn every_package_manager_is_known_however_it_is_called() {
    for run in [
        "apt-get -o Acquire::Retries=3 update && apt-get install -y git",
        "apt-get -q -o=Dpkg::Use-Pty=0 -c /etc/x update",
        "aptitude -t bookworm update",
        "DEBIAN_FRONTEND=noninteractive apt update",
        "env DEBIAN_FRONTEND=noninteractive apt-get update",
        "sudo -E apt-get update",
        "timeout 300 apt-get update",
        "set -ex; apt-get update; apt-get install -y git; apt-get clean; apt-get autoremove -y",
        "sh -c 'apt-get update'",
        "bash -euxo pipefail -c \"apt-get update && apt-get install -y x\"",
        "bash -e <<EOF\napt-get update\nEOF",
        "<<EOF sh -x\napt-get update\nEOF",
        "su root -c 'apt-get update'",
        "[\"apt-get\", \"update\"]",
        "[\"sh\", \"-c\", \"apt-get update\"]",
        "true && `# a note` apt-get update",
        "apt-get install -y `# one` a `# two` b || apt-get update",
        "if [ -x /usr/bin/apt-get ]; then apt-get update; fi",
        "rm -rf /var/lib/apt/lists/* && apt-get update && apt-get install -y git",
        "apk --update add curl",
        "apk -X https://example.com/edge add curl",
        "apk update && apk add --no-cache curl",
        "apk upgrade",
        "dnf -y --setopt=install_weak_deps=False install git",
        "dnf --enablerepo crb install -y git && dnf clean packages",
        "microdnf install -y git",
        "tdnf install -y git",
        "yum -y update",
        "zypper --non-interactive install git",
        "zypper -n ref && zypper -n in git",
        "pacman -Syu --noconfirm git",
        "pip3 install --upgrade pip && pip3 install --no-cache-dir awscli",
        "pip3.11 install flask",
        "/opt/venv/bin/pip install flask",
        "python3.12 -m pip --quiet install flask",
        "pip install --no-compile flask",
        "uv pip install --system flask",
        "uv sync --frozen",
        "poetry install --only main",
        "pipenv install --system --deploy",
        "conda install -y numpy",
        "micromamba install -y -n base -f env.yaml",
        "conda run -n x pip install flask",
        "npm --prefix web install",
        "npm ci && rm -f .npmrc",
        "npm config set registry https://cache.example.com && npm ci",
        "npm install -g serve",
        "yarn --frozen-lockfile",
        "yarn global add serve",
        "pnpm install --frozen-lockfile",
        "bun install --production",
        "bundle config set without test && bundle install",
        "composer install --no-dev",
        "php composer.phar install",
    ] {
        let hints = Case::default().of(&format!("FROM a@@\nRUN {run}\n"));
        let kinds: Vec<K> = hints.iter().map(|hint| hint.kind).collect();
        assert_eq!(kinds, [K::PackageCacheInLayer], "{run}\n{hints:#?}");
    }
}

#[test]
fn every_way_to_leave_no_cache_is_known() {
    for run in [
        "apt-get update && apt-get install -y git && apt-get dist-clean",
        "apt-get update && apt-get install -y git && apt distclean",
        "apt-get update && find /var/lib/apt/lists -type f -delete",
        "apt-get update && rm -rf /var/{cache/apt,lib/apt/lists}",
        "apt-get update && rm -rf /var/lib/{apt,dpkg,cache,log}/",
        "trap 'rm -rf /var/lib/apt/lists/*' EXIT; apt-get update",
        "clean() { rm -rf /var/lib/apt/lists/*; }; apt-get update; clean",
        "apt-get update && /usr/local/bin/cleanup.sh",
        "apt-get update `# a note` && rm -rf /var/lib/apt/lists/* `# another`",
        "apt-get -o Dir::State::lists=/tmp/lists update",
        "apt-get clean",
        "--mount=type=cache,target=/var/lib/apt/lists/ apt-get update",
        "--mount=type=tmpfs,target=/var/lib/apt apt-get update",
        "apk add --no-cache --virtual .build gcc && apk del .build",
        "apk add --root /out --initdb busybox",
        "apk update --no-cache",
        "dnf install -y git && dnf clean --disableplugin=subscription-manager all",
        "dnf install -y git && dnf -y clean all",
        "microdnf install -y git && microdnf clean all",
        "tdnf install -y git && tdnf clean all",
        "dnf install -y git && rm -rf /var/cache/*",
        "dnf install --installroot /out -y git",
        "zypper -n in git && zypper clean -a",
        "zypper -n in git && zypper cc --all",
        "pacman -Sy --noconfirm git && pacman -Scc --noconfirm",
        "pacman -S --noconfirm git && rm -rf /var/cache/pacman/pkg/*",
        "pacman -Ss git && pacman -Qi git",
        "pip install --no-cache flask",
        "pip --no-cache-dir install flask",
        "export PIP_NO_CACHE_DIR=1 && pip install flask",
        "env PIP_NO_CACHE_DIR=off pip3 install flask",
        "pip install flask && rm -rf \"$(pip cache dir)\"",
        "pip install flask && rm -rf ~/.cache",
        "pip install --no-deps ./app",
        "HOME=/tmp pip install flask",
        "uv sync --no-cache && uv pip install --no-cache flask",
        "UV_NO_CACHE=1 uv sync",
        "poetry install && poetry cache clear pypi --all -n",
        "poetry install && rm -rf ~/.cache/pypoetry",
        "pipenv install --system --clear",
        "conda install -y numpy && conda clean -afy",
        "mamba env create -f environment.yml && mamba clean --all -y",
        "--mount=type=cache,target=/opt/conda/pkgs conda install -y numpy",
        "npm ci --cache /tmp/npm && rm -rf /tmp/npm",
        "npm ci && rm -rf /root/.npm/_cacache",
        "npm config set cache /tmp/npm --global && npm ci",
        "npm_config_cache=/tmp/npm npm ci",
        "yarn install && yarn cache clean",
        "yarn install && rm -rf $(yarn cache dir)",
        "yarn install --immutable",
        "YARN_CACHE_FOLDER=/tmp/yarn yarn",
        "--mount=type=cache,target=/usr/local/share/.cache/yarn yarn install",
        "yarn build && command -v yarn",
        "corepack enable && yarn --version",
        "--mount=type=cache,id=pnpm,target=/pnpm/store pnpm install",
        "pnpm install && pnpm store prune",
        "bun install && rm -rf ~/.bun/install/cache",
        "bun run build",
        "bundle install && rm -rf ~/.bundle/ \"${BUNDLE_PATH}\"/ruby/*/cache",
        "bundle install && find /usr/local/bundle -name '*.gem' -delete",
        "bundle exec rake assets:precompile",
        "composer install --no-cache",
        "composer install && composer clear-cache",
        "composer dump-autoload",
        "chroot /out apt-get update",
    ] {
        silent(&[&format!("FROM a@@\nRUN {run}\n")]);
    }
    silent(&[
        "FROM a@@\nRUN pip config set global.no-cache-dir true\nRUN pip install flask",
        "FROM a@@\nCOPY pip.conf /etc/pip.conf\nRUN pip install flask",
        "FROM a@@\nENV YARN_CACHE_FOLDER=/tmp/yarn\nRUN yarn install",
        "FROM a@@\nCOPY .yarnrc.yml .\nCOPY .yarn/ .yarn/\nRUN yarn install",
        "FROM a@@\nONBUILD COPY <<X /x\ny\nX\nONBUILD RUN <<EOF\napk add x\nEOF",
    ]);
}

#[test]
fn an_onbuild_with_a_here_document_does_not_hide_what_follows() {
    assert_eq!(
        kinds("FROM a@@\nONBUILD COPY <<X /x\nRUN apk add x\nX\nRUN apt-get update\n"),
        [(K::PackageCacheInLayer, Some(5))]
    );
}

#[test]
fn another_escape_character_changes_nothing_in_the_shell() {
    assert_eq!(
        kinds("# escape=`\nFROM a@@\nRUN true && `\n  apt-get update\n"),
        [(K::PackageCacheInLayer, Some(4))]
    );
    assert_eq!(
        kinds(
            "FROM a@@\nSHELL [\"conda\", \"run\", \"-n\", \"x\", \"/bin/bash\", \"-c\"]\nRUN apt-get update\n"
        ),
        [(K::PackageCacheInLayer, Some(3))]
    );
}
