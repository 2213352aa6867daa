package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ErrNoArchive says that the Debian archive could not give a package that the guest is made of.
var ErrNoArchive = errors.New("the Debian archive does not give the guest's packages")

// guestKind is the kind of set in the cache that guests are booted from.
const guestKind = "guest"

// kernelMetapackage depends on the newest kernel package of the distribution.
const kernelMetapackage = "linux-image-amd64"

// guestPrograms are the packages whose programs the guest needs. Those that the host has are used from there.
var guestPrograms = []string{
	"dbus", "hostapd", "iproute2", "iputils-ping", "iw", "kmod", "network-manager", "openssh-client", "openssh-server", "systemd", "tcpdump", "tmux", "util-linux",
	"wireless-regdb", "wpasupplicant",
}

// keptModules are the folders and files of the kernel package's module tree that go into the guest: networks, radios,
// their cryptography, disks, and what the guest itself stands on.
var keptModules = []string{
	"arch", "crypto", "lib", "net", "virt",
	"fs/9p", "fs/autofs", "fs/ext4", "fs/fscache", "fs/fuse", "fs/jbd2", "fs/mbcache.ko", "fs/netfs", "fs/overlayfs", "drivers/block/virtio_blk.ko",
	"drivers/char", "drivers/virtio", "drivers/net/*.ko", "drivers/net/wireless/mac80211_hwsim.ko",
}

// Parts are the things a guest is booted from. They stay valid until Close, as long as the cache is not damaged.
type Parts struct {
	Cache     string   // cache folder
	Kernel    string   // path of the kernel image
	Initramfs string   // path
	Root      string   // folder of the guest layer
	Version   string   // kernel's release, as uname -r gives
	Packages  []string // Debian packages, NAME=VERSION, that the parts came from
	Built     bool     // built by this call, not found in the cache

	set *set
}

func newParts(cache string, s *set) *Parts {
	return &Parts{
		Cache: cache, Version: s.Version, Packages: s.Packages, Built: s.built, set: s,
		Kernel: filepath.Join(s.folder, "vmlinuz"), Initramfs: filepath.Join(s.folder, "initramfs"), Root: filepath.Join(s.folder, "root"),
	}
}

// Close says that no guest needs the parts any more, so that a later Prepare may remove them for newer ones. It may be called
// twice.
func (p *Parts) Close() error { return p.set.release() }

// CacheFolder is $NIGH_LAB_CACHE, else nigh-lab in $XDG_CACHE_HOME or ~/.cache.
func CacheFolder() (string, error) {
	folder := os.Getenv("NIGH_LAB_CACHE")
	if folder == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("vm: cache folder: %w: set NIGH_LAB_CACHE", err)
		}
		folder = filepath.Join(base, "nigh-lab")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("vm: cache folder: %w", err)
	}
	return folder, nil
}

// Prepare sees to it that the host's tools are installed and the guest's parts are in the cache and whole, and builds again
// whatever is not. It holds a lock on the cache meanwhile. The parts are in use, and so kept, until their Close or the end of
// this process. A nil logger discards.
func Prepare(ctx context.Context, cache string, logger *slog.Logger) (*Parts, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	unlock, err := enter(ctx, cache)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := installTools(ctx, logger); err != nil {
		return nil, err
	}
	whole, fits, err := check(ctx, cache, logger)
	if err != nil {
		return nil, err
	}
	s := whole
	if !fits {
		s, err = build(ctx, cache, logger)
		if err != nil && whole != nil {
			logger.Warn("Cannot renew the guest, going on with the one in the cache", "error", err)
			s, err = whole, nil
		} else if err == nil {
			err = whole.release()
		}
	}
	if err != nil {
		return nil, err
	}
	prune(cache, guestKind, logger)
	return newParts(cache, s), nil
}

// enter locks the cache, which it makes if need be.
func enter(ctx context.Context, cache string) (unlock func(), err error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("vm: %w: the lab's guest is amd64, this machine is %s", errors.ErrUnsupported, runtime.GOARCH)
	}
	if err := os.MkdirAll(filepath.Join(cache, "sets"), 0o755); err != nil {
		return nil, fmt.Errorf("vm: cache: %w", err)
	}
	return lock(ctx, filepath.Join(cache, "lock"))
}

// check gives a set from the cache that has every part that it should, nil when there is none, and whether its parts are
// still what a new build would make.
func check(ctx context.Context, cache string, logger *slog.Logger) (s *set, fits bool, err error) {
	host := hostDigest()
	var folders []string
	var manifests []*manifest
	for _, folder := range setFolders(cache, guestKind) {
		m, err := readManifest(folder)
		if err != nil || m.Recipe != recipeDigest() {
			continue
		}
		if err := verify(ctx, filepath.Join(folder, "parts"), m.Files); err != nil {
			logger.Warn("Cache is damaged, building it again", "error", err)
			continue
		}
		if m.Host == host {
			s, err := hold(folder, m, false)
			return s, true, err
		}
		folders, manifests = append(folders, folder), append(manifests, m)
	}
	if len(folders) == 0 {
		return nil, false, nil
	}
	// Something was installed on the host; it may change nothing that the guest needs.
	kernel, others, err := solve(ctx)
	i := slices.IndexFunc(manifests, func(m *manifest) bool {
		return err == nil && slices.Equal(m.Packages, append([]string{kernel}, others...))
	})
	if i < 0 {
		s, err := hold(folders[0], manifests[0], false)
		return s, false, err
	}
	manifests[i].Host = host
	if err := writeManifest(folders[i], manifests[i]); err != nil {
		logger.Warn("Cannot note in the cache that it was checked", "error", err)
	}
	s, err = hold(folders[i], manifests[i], false)
	return s, true, err
}

// solve asks apt which packages the guest needs beside those that the host has installed: the kernel, as NAME=VERSION, and
// the others, sorted.
func solve(ctx context.Context) (kernel string, others []string, err error) {
	out, err := output(ctx, "apt-cache", "depends", kernelMetapackage)
	if err != nil {
		return "", nil, fmt.Errorf("vm: %w: %w", ErrNoArchive, err)
	}
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-") {
			kernel = name
		}
	}
	if kernel == "" {
		return "", nil, fmt.Errorf("vm: %w: %s depends on no kernel", ErrNoArchive, kernelMetapackage)
	}
	if out, err = output(ctx, "apt-cache", "show", "--no-all-versions", kernel); err != nil {
		return "", nil, fmt.Errorf("vm: %w: %w", ErrNoArchive, err)
	}
	for line := range strings.Lines(out) {
		if version, ok := strings.CutPrefix(line, "Version: "); ok {
			kernel += "=" + strings.TrimSpace(version)
			break
		}
	}
	// The exact set that is missing here.
	out, err = output(ctx, "apt-get", append([]string{"-s", "--no-install-recommends", "--no-upgrade", "install"}, guestPrograms...)...)
	if err != nil {
		return "", nil, fmt.Errorf("vm: %w: %w", ErrNoArchive, err)
	}
	others = installed(out)
	slices.Sort(others)
	return kernel, others, nil
}

// installed reads the lines "Inst NAME (VERSION ..." of a simulated installation, as NAME=VERSION each.
func installed(simulation string) []string {
	var packages []string
	for line := range strings.Lines(simulation) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "Inst" {
			continue
		}
		version := f[2]
		if strings.HasPrefix(version, "[") && len(f) > 3 {
			version = f[3]
		}
		packages = append(packages, f[1]+"="+strings.TrimPrefix(version, "("))
	}
	return packages
}

// build makes the parts from scratch.
func build(ctx context.Context, cache string, logger *slog.Logger) (*set, error) {
	kernel, others, err := solve(ctx)
	if err != nil {
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("%w: run apt-get update as root", err)
		}
		// A fresh machine has no package lists.
		if _, uerr := apt(ctx, "update"); uerr != nil {
			return nil, errors.Join(err, uerr)
		}
		if kernel, others, err = solve(ctx); err != nil {
			return nil, err
		}
	}
	packages := append([]string{kernel}, others...)
	logger.Info("Fetching the guest's packages", "packages", strings.Join(packages, " "))
	debs := filepath.Join(cache, "debs")
	if err := fetch(ctx, debs, packages); err != nil {
		return nil, err
	}
	logger.Info("Building the guest")
	m := &manifest{Recipe: recipeDigest(), Host: hostDigest(), Packages: packages}
	return install(ctx, cache, guestKind, m, func(folder string) error {
		root := filepath.Join(folder, "root")
		if err := makeRoot(root); err != nil {
			return err
		}
		for _, p := range others {
			if err := unpack(ctx, debs, p, root, noDocumentation...); err != nil {
				return err
			}
		}
		var err error
		if m.Version, err = unpackKernel(ctx, debs, kernel, folder, root); err != nil {
			return err
		}
		if err := activate(root); err != nil {
			return err
		}
		busybox, err := lookTool("busybox")
		if err != nil {
			return err
		}
		if err := buildInitramfs(ctx, root, m.Version, busybox, filepath.Join(folder, "initramfs")); err != nil {
			return err
		}
		return openFolders(root)
	})
}

// noDocumentation is for unpack.
var noDocumentation = []string{"--exclude=./usr/share/doc", "--exclude=./usr/share/man"}

// makeRoot makes a folder that packages can be unpacked into.
func makeRoot(root string) error {
	for _, d := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return fmt.Errorf("vm: build: %w", err)
		}
		// As on the host: a real /lib in this layer would hide the host's symbolic link.
		if err := os.Symlink(d, filepath.Join(root, filepath.Base(d))); err != nil {
			return fmt.Errorf("vm: build: %w", err)
		}
	}
	return nil
}

// openFolders makes every folder of the layer passable for the guest's users, whatever mask the user who built it has.
func openFolders(root string) error {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
	if err != nil {
		return fmt.Errorf("vm: build: %w", err)
	}
	return nil
}

// fetch downloads exactly these packages, NAME=VERSION each. A package that is there and whole is not downloaded again:
// apt-get compares its checksum with the archive's. Options are apt's, for another archive than the host's.
func fetch(ctx context.Context, debs string, packages []string, options ...string) error {
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return fmt.Errorf("vm: packages: %w", err)
	}
	arguments := slices.Concat(options, []string{"-q", "download"}, packages)
	_, err := outputIn(ctx, debs, "apt-get", arguments...)
	if err != nil && (os.Geteuid() == 0 || len(options) > 0) {
		// The lists are older than the archive's folders.
		if _, uerr := apt(ctx, slices.Concat(options, []string{"update"})...); uerr != nil {
			return fmt.Errorf("vm: %w: %w", ErrNoArchive, errors.Join(err, uerr))
		}
		_, err = outputIn(ctx, debs, "apt-get", arguments...)
	}
	if err != nil {
		return fmt.Errorf("vm: %w: %w", ErrNoArchive, err)
	}
	return nil
}

// debFile finds the file of a package NAME=VERSION: apt-get names it NAME_VERSION_ARCH.deb, with the epoch's colon escaped.
func debFile(debs, p string) (string, error) {
	name, version, _ := strings.Cut(p, "=")
	name, _, _ = strings.Cut(name, ":")
	pattern := name + "_" + strings.ReplaceAll(version, ":", "%3a") + "_*.deb"
	found, err := filepath.Glob(filepath.Join(debs, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("vm: %w: %d files %s", ErrNoArchive, len(found), pattern)
	}
	return found[0], nil
}

// unpack extracts a package's files into root. It is dpkg -x, but goes through the symbolic links /bin, /lib and /sbin instead
// of replacing them.
func unpack(ctx context.Context, debs, p, root string, tarArgs ...string) error {
	path, err := debFile(debs, p)
	if err != nil {
		return err
	}
	script := `deb=$1 root=$2; shift 2
dpkg-deb --fsys-tarfile "$deb" | tar -x -p --keep-directory-symlink --no-same-owner --delay-directory-restore -C "$root" -f - "$@"`
	args := append([]string{"-c", script, "sh", path, root}, tarArgs...)
	if _, err := output(ctx, "sh", args...); err != nil {
		return fmt.Errorf("vm: unpack %s: %w", p, err)
	}
	return nil
}

// unpackKernel puts the image into folder and the kept modules, with their index, into root. It returns the release.
func unpackKernel(ctx context.Context, debs, kernel, folder, root string) (string, error) {
	whole := filepath.Join(folder, "kernel")
	if err := os.Mkdir(whole, 0o755); err != nil {
		return "", fmt.Errorf("vm: unpack kernel: %w", err)
	}
	defer func() { _ = os.RemoveAll(whole) }() // what stays costs room in the cache only
	if err := unpack(ctx, debs, kernel, whole); err != nil {
		return "", err
	}
	images, err := filepath.Glob(filepath.Join(whole, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return "", fmt.Errorf("vm: unpack kernel: %s has %d kernel images", kernel, len(images))
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if err := os.Rename(images[0], filepath.Join(folder, "vmlinuz")); err != nil {
		return "", fmt.Errorf("vm: unpack kernel: %w", err)
	}
	// Newer packages have their modules below /usr.
	all := filepath.Join(whole, "lib/modules", version)
	if _, err := os.Stat(all); err != nil {
		all = filepath.Join(whole, "usr/lib/modules", version)
	}
	kept := filepath.Join(root, "usr/lib/modules", version)
	for _, pattern := range keptModules {
		found, err := filepath.Glob(filepath.Join(all, "kernel", pattern))
		if err != nil {
			return "", fmt.Errorf("vm: unpack kernel: %w", err)
		}
		for _, from := range found {
			to := filepath.Join(kept, strings.TrimPrefix(from, all))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return "", fmt.Errorf("vm: unpack kernel: %w", err)
			}
			if err := os.Rename(from, to); err != nil {
				return "", fmt.Errorf("vm: unpack kernel: %w", err)
			}
		}
	}
	for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := os.Rename(filepath.Join(all, list), filepath.Join(kept, list)); err != nil {
			return "", fmt.Errorf("vm: unpack kernel: %w", err)
		}
	}
	if _, err := output(ctx, "depmod", "--basedir", root, version); err != nil {
		return "", fmt.Errorf("vm: index modules: %w", err)
	}
	return version, nil
}

// activate does what the packages' own scripts do when they are installed, as far as the guest needs it.
func activate(root string) error {
	// The kernel asks for the wireless regulations by this name, which is an alternative that Debian's script sets.
	if _, err := os.Stat(filepath.Join(root, "lib/firmware/regulatory.db-debian")); err == nil {
		for _, name := range []string{"regulatory.db", "regulatory.db.p7s"} {
			if err := os.Symlink(name+"-debian", filepath.Join(root, "lib/firmware", name)); err != nil {
				return fmt.Errorf("vm: activation: %w", err)
			}
		}
	}
	// wpa_supplicant's name on D-Bus starts its service.
	if _, err := os.Stat(filepath.Join(root, "lib/systemd/system/wpa_supplicant.service")); err != nil {
		return nil // the host has it installed
	}
	folder := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("vm: activation: %w", err)
	}
	err := os.Symlink("/lib/systemd/system/wpa_supplicant.service", filepath.Join(folder, "dbus-fi.w1.wpa_supplicant1.service"))
	if err != nil {
		return fmt.Errorf("vm: activation: %w", err)
	}
	return nil
}
