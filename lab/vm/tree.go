package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// TreesFolder is where a guest sees its trees: TreesFolder/NAME has the folders usr, etc and var of the packages. Programs are
// run from it by nigh/lab/radio.
const TreesFolder = "/run/lab/trees"

// Tree says which programs of another Debian suite than the host's a guest can have beside its own.
type Tree struct {
	Name     string   // letters, digits, dots and hyphens
	Suites   []string // code names, in the order in which they are asked
	Packages []string // with all that they depend on; what they only recommend is not taken
	// Version is how the upstream version of the first package must begin; "" takes what the first suite has. Suites move on, so a
	// version can vanish from all of them; a tree that is in the cache stays.
	Version string
}

// Trees are the ones that the lab's tests use, by name.
var Trees = map[string]Tree{
	"wpasupplicant-2.11": {
		Name: "wpasupplicant-2.11", Suites: []string{"forky", "sid"}, Packages: []string{"wpasupplicant"}, Version: "2.11",
	},
	"networkmanager-1.58": {
		Name: "networkmanager-1.58", Suites: []string{"forky", "sid"}, Packages: []string{"network-manager"}, Version: "1.58",
	},
}

// PreparedTree is a tree in the cache. It stays there until Close.
type PreparedTree struct {
	Tree
	Folder string   // on the host
	Has    []string // the packages, NAME=VERSION
	Built  bool     // built by this call, not found in the cache

	set *set
}

// Close says that no guest needs the tree any more. It may be called twice.
func (t *PreparedTree) Close() error { return t.set.release() }

// PrepareTree sees to it that the tree is in the cache and whole, and is otherwise like [Prepare]. What is not in the cache comes
// from the archive that the host's own Debian packages come from, checked by apt-get with a configuration, lists and keys of
// its own: the host's lists and its idea of what is installed are not touched. The error is ErrNoArchive when no suite has the
// packages in the wanted version.
func PrepareTree(ctx context.Context, cache string, t Tree, logger *slog.Logger) (*PreparedTree, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	unlock, err := enter(ctx, cache)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := checkTree(ctx, cache, t, logger)
	if s == nil && err == nil {
		s, err = buildTree(ctx, cache, t, logger)
	}
	if err != nil {
		return nil, fmt.Errorf("vm: tree %s: %w", t.Name, err)
	}
	prune(cache, t.kind(), logger)
	return &PreparedTree{Tree: t, Folder: s.folder, Has: s.Packages, Built: s.built, set: s}, nil
}

func (t Tree) kind() string { return "tree-" + t.Name }

// recipe changes when another tree would be built from the same archive.
func (t Tree) recipe() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "1 %q", []any{t.Name, t.Suites, t.Packages, t.Version}))
	return hex.EncodeToString(sum[:])
}

// checkTree gives the tree from the cache, nil when it has none.
func checkTree(ctx context.Context, cache string, t Tree, logger *slog.Logger) (*set, error) {
	for _, folder := range setFolders(cache, t.kind()) {
		m, err := readManifest(folder)
		if err != nil || m.Recipe != t.recipe() {
			continue
		}
		if err := verify(ctx, filepath.Join(folder, "parts"), m.Files); err != nil {
			logger.Warn("Tree is damaged, building it again", "tree", t.Name, "error", err)
			continue
		}
		return hold(folder, m, false)
	}
	return nil, nil
}

func buildTree(ctx context.Context, cache string, t Tree, logger *slog.Logger) (*set, error) {
	archive, err := hostArchive(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(cache, "apt-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }() // what stays costs room in the cache only
	var missing []string
	for _, suite := range t.Suites {
		logger.Info("Asking another suite", "suite", suite, "packages", strings.Join(t.Packages, " "))
		options, err := foreign(ctx, filepath.Join(folder, suite), archive, suite)
		var packages []string
		if err == nil {
			packages, err = t.solve(ctx, options)
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", suite, err))
			continue
		}
		logger.Info("Fetching packages", "suite", suite, "packages", strings.Join(packages, " "))
		debs := filepath.Join(cache, "debs")
		if err := fetch(ctx, debs, packages, options...); err != nil {
			return nil, err
		}
		m := &manifest{Recipe: t.recipe(), Packages: packages}
		return install(ctx, cache, t.kind(), m, func(folder string) error {
			if err := makeRoot(folder); err != nil {
				return err
			}
			for _, p := range packages {
				if err := unpack(ctx, debs, p, folder, noDocumentation...); err != nil {
					return err
				}
			}
			return openFolders(folder)
		})
	}
	return nil, fmt.Errorf("%w: %s", ErrNoArchive, strings.Join(missing, "; "))
}

// solve asks apt for the packages with everything that they depend on, as on a machine that has nothing installed.
func (t Tree) solve(ctx context.Context, options []string) ([]string, error) {
	out, err := output(ctx, "apt-get", slices.Concat(options, []string{"-s", "--no-install-recommends", "install"}, t.Packages)...)
	if err != nil {
		return nil, err
	}
	packages := installed(out)
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "=")
		if name != t.Packages[0] {
			continue
		}
		if upstream := version[strings.IndexByte(version, ':')+1:]; !strings.HasPrefix(upstream, t.Version) {
			return nil, fmt.Errorf("it has %s %s, not %s", name, version, t.Version)
		}
	}
	slices.Sort(packages)
	return packages, nil
}

// hostArchive gives the address of the archive that the host's Debian packages come from, as apt knows it.
func hostArchive(ctx context.Context) (string, error) {
	ask := func() (string, error) {
		out, err := output(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)", "Created-By: Packages")
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			// Updates and security fixes are CODENAME-updates and CODENAME-security.
			if len(f) == 4 && f[0] == "Debian" && f[1] == "main" && !strings.Contains(f[2], "-") {
				return f[3], nil
			}
		}
		return "", err
	}
	archive, err := ask()
	if archive == "" && os.Geteuid() == 0 {
		// A fresh machine has no package lists.
		if _, err := apt(ctx, "update"); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoArchive, err)
		}
		archive, err = ask()
	}
	if archive == "" && err == nil {
		err = fmt.Errorf("%w: apt has no Debian archive: run apt-get update as root", ErrNoArchive)
	}
	return archive, err
}

// keyring is where Debian keeps the keys of all its suites, newer ones too.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// foreign makes an apt configuration for one suite of the archive in folder, reads the suite's lists, and gives the options
// that make apt use it.
func foreign(ctx context.Context, folder, archive, suite string) (options []string, err error) {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "sources"} {
		if err := os.MkdirAll(filepath.Join(folder, d), 0o755); err != nil {
			return nil, err
		}
	}
	source := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", archive, suite)
	if _, err := os.Stat(keyring); err == nil {
		source += "Signed-By: " + keyring + "\n"
	}
	for name, content := range map[string]string{"sources/suite.sources": source, "status": ""} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	for _, o := range []string{
		"Dir::State=" + filepath.Join(folder, "state"), "Dir::State::status=" + filepath.Join(folder, "status"),
		"Dir::Cache=" + filepath.Join(folder, "cache"),
		"Dir::Etc::SourceList=/dev/null", "Dir::Etc::SourceParts=" + filepath.Join(folder, "sources"),
		"APT::Default-Release=" + suite, "Dir::Etc::Preferences=/dev/null", "Dir::Etc::PreferencesParts=/dev/null",
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	} {
		options = append(options, "-o", o)
	}
	// Without this apt-get update succeeds also when the suite could not be had.
	_, err = apt(ctx, slices.Concat(options, []string{"-o", "APT::Update::Error-Mode=any", "update"})...)
	return options, err
}
