//! Images without a daemon: built by buildah, taken into containerd by its own ctr.

use super::node::binary;
use super::{Result, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the node's own images; their archives.
pub fn build(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join("images");
    let context = folder.join("context");
    std::fs::create_dir_all(&context)?;
    let source = root().join("tests/node/pause.c");
    let pause = context.join("pause");
    run(Command::new("cc").args(["-static", "-Os", "-o"]).arg(&pause).arg(source))?;
    for (name, program) in [("coredns", binary("coredns")?), ("busybox", PathBuf::from("/bin/busybox"))] {
        std::fs::copy(&program, context.join(name)).map_err(|error| format!("{}: {error}", program.display()))?;
    }
    ["pause", "coredns", "busybox"].into_iter().map(|name| one(&folder, &context, name)).collect()
}

fn one(folder: &Path, context: &Path, name: &str) -> Result<PathBuf> {
    let archive = folder.join(format!("{name}.tar"));
    let image = format!("localhost/{name}:1");
    let buildah = || {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    };
    let containerfile = root().join("tests/node/Containerfile");
    run(buildah()
        .args(["bud", "--quiet", "--isolation", "chroot", "--target", name, "-t", &image, "-f"])
        .arg(containerfile)
        .arg(context))?;
    run(buildah().args(["push", "--quiet", &image]).arg(format!("docker-archive:{}:{image}", archive.display())))?;
    Ok(archive)
}

/// Takes an archive of images into containerd.
pub fn import(archive: &Path) -> Result<()> {
    if !archive.exists() {
        return Err(format!("{} is not there: run `make images`", archive.display()).into());
    }
    run(Command::new(binary("ctr")?).args(["--namespace", "k8s.io", "images", "import"]).arg(archive))
}

/// Gives an image another name too.
pub fn tag(image: &str, other: &str) -> Result<()> {
    run(Command::new(binary("ctr")?).args(["--namespace", "k8s.io", "images", "tag", "--force", image, other]))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}: run `tools/install.sh node`"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)).into())
}
