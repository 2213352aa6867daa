package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goPackage is the part of `go list -json` that the rules need.
type goPackage struct {
	ImportPath   string
	Dir          string
	Standard     bool
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
}

// tools may be imported by the packages named (and by those below a name that ends in "/..."), by nobody else.
var tools = []struct {
	module string
	users  []string
}{
	{"github.com/godbus/dbus", []string{"nigh/wpa/...", "nigh/agent/doctor", "nigh/agent/desktop", "nigh/lab/..."}},
	{"github.com/vishvananda/netlink", []string{"nigh/link/...", "nigh/lab/..."}},
	{"github.com/grandcat/zeroconf", []string{"nigh/discovery"}},
	{"github.com/charmbracelet/bubbletea", []string{"nigh/tui/...", "nigh/lab/cmd/shots"}},
	{"github.com/charmbracelet/lipgloss", []string{"nigh/tui/..."}},
	{"github.com/spf13/cobra", []string{"nigh/cli", "nigh/lab/..."}},
	{"go.etcd.io/bbolt", []string{"nigh/agent/store"}},
	{"github.com/fsnotify/fsnotify", []string{"nigh/agent/share"}},
	{"github.com/spdx/tools-golang", []string{"nigh/lab/cmd/release"}},
	{"github.com/go-analyze/charts", []string{"nigh/lab/cmd/bench"}},
}

// layers says which packages of ours a package may import. The first pattern that matches counts; a package that no
// pattern matches may import none.
var layers = []struct {
	packages string
	may      []string
}{
	{"nigh", []string{"nigh/..."}},
	{"nigh/lab/...", []string{"nigh/..."}},
	{"nigh/wpa/...", []string{"nigh/wpa/..."}},
	{"nigh/link/...", []string{"nigh/link/..."}},
	{"nigh/discovery/...", nil},
	{"nigh/agent/desktop", []string{"nigh/agent/control"}},
	{"nigh/systemd", []string{"nigh/agent/control"}},
	{"nigh/agent", []string{"nigh/agent/...", "nigh/wpa", "nigh/link/...", "nigh/discovery"}},
	{"nigh/agent/control", nil},
	{"nigh/agent/clean", nil},
	{"nigh/agent/private", nil},
	{"nigh/agent/content", nil},
	{"nigh/agent/sandbox", nil},
	{"nigh/agent/identity", []string{"nigh/agent/private"}},
	{"nigh/agent/policy", []string{"nigh/agent/control", "nigh/agent/identity", "nigh/agent/private"}},
	{"nigh/agent/store", []string{"nigh/agent/private"}},
	{"nigh/agent/recognise", []string{"nigh/agent/identity"}},
	{"nigh/agent/trust", []string{"nigh/agent/identity", "nigh/agent/store", "nigh/agent/clean"}},
	{"nigh/agent/session", []string{"nigh/agent/identity", "nigh/agent/trust", "nigh/agent/clean"}},
	{"nigh/agent/pairing", []string{"nigh/agent/identity", "nigh/agent/trust", "nigh/agent/store", "nigh/agent/session", "nigh/agent/clean"}},
	{"nigh/agent/receive", []string{"nigh/agent/sandbox", "nigh/agent/content", "nigh/agent/store", "nigh/agent/clean"}},
	{"nigh/agent/transfer", moving},
	{"nigh/agent/message", moving},
	{"nigh/agent/share", moving},
	{"nigh/agent/doctor", []string{"nigh/wpa", "nigh/link", "nigh/systemd"}},
	{"nigh/cli", []string{"nigh/agent/control", "nigh/tui", "nigh/tui/wificode"}},
	{"nigh/tui/...", []string{"nigh/agent/control", "nigh/tui/..."}},
}

// moving is what the packages that move things between devices stand on.
var moving = []string{"nigh/agent/sandbox", "nigh/agent/identity", "nigh/agent/session", "nigh/agent/receive", "nigh/agent/content", "nigh/agent/store", "nigh/agent/clean"}

// standardOnly are packages whose whole tree of dependencies is the standard library.
var standardOnly = []string{"nigh/agent/control"}

// forbiddenNames say nothing about what is inside.
var forbiddenNames = []string{"internal", "pkg", "util", "utils", "common", "helper", "helpers", "misc"}

// violations returns one sentence for each rule that a package breaks, in the order of the packages.
func violations(packages []goPackage) []string {
	standard := map[string]bool{}
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	var found []string
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		if !ours(p.ImportPath) {
			continue
		}
		for name := range strings.SplitSeq(p.ImportPath, "/") {
			if slices.Contains(forbiddenNames, name) {
				report("%s: no package is named %s", p.ImportPath, name)
			}
		}
		known, may := allowed(p.ImportPath)
		if !known {
			report("%s: the import rules do not know this package", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if known && ours(imp) && !matchesAny(may, imp) {
				report("%s must not import %s", p.ImportPath, imp)
			}
			for _, tool := range tools {
				if below(tool.module, imp) && !matchesAny(tool.users, p.ImportPath) {
					report("%s must not import %s: only %s may", p.ImportPath, imp, strings.Join(tool.users, ", "))
				}
			}
		}
		// A test may use the beds and tools its package may not, yet it must not climb: what is tested together is tested
		// from above.
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if known && ours(imp) && imp != p.ImportPath && !matchesAny(may, imp) && !underneath(may, imp) && !matches("nigh/lab/...", imp) {
				report("tests of %s must not import %s", p.ImportPath, imp)
			}
		}
		if slices.Contains(standardOnly, p.ImportPath) {
			for _, dep := range p.Deps {
				if !standard[dep] {
					report("%s must stand on the standard library alone, and needs %s", p.ImportPath, dep)
				}
			}
		}
	}
	return found
}

// underneath reports whether a package that may be imported may itself import imp: a test needs the types that its
// package's foundation is configured with.
func underneath(may []string, imp string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		_, further := allowed(m)
		return matchesAny(further, imp)
	})
}

// allowed returns what a package of ours may import.
func allowed(importPath string) (known bool, may []string) {
	for _, l := range layers {
		if matches(l.packages, importPath) {
			return true, l.may
		}
	}
	return false, nil
}

func ours(importPath string) bool { return below("nigh", importPath) }

func below(parent, importPath string) bool {
	return importPath == parent || strings.HasPrefix(importPath, parent+"/")
}

func matches(pattern, importPath string) bool {
	if parent, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(parent, importPath)
	}
	return pattern == importPath
}

func matchesAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, importPath) })
}

// list reads the packages of this module with all they depend on, also the files that are built for the radio lab.
func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags=radio,netns",
		"-json=ImportPath,Dir,Standard,Imports,Deps,TestImports,XTestImports,GoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImportRules(t *testing.T) {
	packages := list(t)
	if !slices.ContainsFunc(packages, func(p goPackage) bool { return p.ImportPath == "nigh/agent/control" }) {
		t.Fatal("go list does not list this module")
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

// Each row breaks one rule, or none.
func TestImportRulesCatchViolations(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    goPackage
		want string // part of the only violation, "" for none
	}{
		{"clean", goPackage{ImportPath: "nigh/wpa", Imports: []string{"context", "github.com/godbus/dbus/v5", "nigh/wpa/dbusapi"}}, ""},
		{"everything from main", goPackage{ImportPath: "nigh", Imports: []string{"nigh/cli", "nigh/agent", "nigh/tui"}}, ""},
		{"wpa knows link", goPackage{ImportPath: "nigh/wpa", Imports: []string{"nigh/link"}}, "nigh/wpa must not import nigh/link"},
		{"link knows the agent", goPackage{ImportPath: "nigh/link", Imports: []string{"nigh/agent"}}, "must not import nigh/agent"},
		{"discovery knows the cli", goPackage{ImportPath: "nigh/discovery", Imports: []string{"nigh/cli"}}, "must not import nigh/cli"},
		{"child climbs", goPackage{ImportPath: "nigh/agent/session", Imports: []string{"nigh/agent"}}, "must not import nigh/agent"},
		{"sideways", goPackage{ImportPath: "nigh/agent/trust", Imports: []string{"nigh/agent/session"}}, "must not import nigh/agent/session"},
		{"faces see the agent", goPackage{ImportPath: "nigh/tui", Imports: []string{"nigh/agent"}}, "must not import nigh/agent"},
		{"tui calls cli", goPackage{ImportPath: "nigh/tui", Imports: []string{"nigh/cli"}}, "must not import nigh/cli"},
		{"cli reads the store", goPackage{ImportPath: "nigh/cli", Imports: []string{"nigh/agent/store"}}, "must not import nigh/agent/store"},
		{"godbus in the agent", goPackage{ImportPath: "nigh/agent", Imports: []string{"github.com/godbus/dbus/v5"}}, "must not import github.com/godbus/dbus/v5"},
		{"netlink in wpa", goPackage{ImportPath: "nigh/wpa", Imports: []string{"github.com/vishvananda/netlink/nl"}}, "must not import github.com/vishvananda/netlink/nl"},
		{"zeroconf in the agent", goPackage{ImportPath: "nigh/agent", Imports: []string{"github.com/grandcat/zeroconf"}}, "must not import github.com/grandcat/zeroconf"},
		{"bubbletea in the cli", goPackage{ImportPath: "nigh/cli", Imports: []string{"github.com/charmbracelet/bubbletea"}}, "must not import github.com/charmbracelet/bubbletea"},
		{"control beyond the standard library", goPackage{ImportPath: "nigh/agent/control", Deps: []string{"golang.org/x/sync/errgroup"}}, "standard library alone"},
		{"test climbs", goPackage{ImportPath: "nigh/wpa", XTestImports: []string{"nigh/agent"}}, "tests of nigh/wpa must not import nigh/agent"},
		{"test uses a bed", goPackage{ImportPath: "nigh/wpa", XTestImports: []string{"nigh/wpa", "nigh/lab/radio"}}, ""},
		{"name", goPackage{ImportPath: "nigh/lab/util"}, "no package is named util"},
		{"unknown", goPackage{ImportPath: "nigh/plugins"}, "do not know this package"},
		{"not ours", goPackage{ImportPath: "nightly/internal", Imports: []string{"github.com/vishvananda/netlink"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := violations([]goPackage{tt.p})
			switch {
			case tt.want == "" && len(got) != 0:
				t.Errorf("violations: %q", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("violations: %q, want one with %q", got, tt.want)
			}
		})
	}
}

// packageDocs returns the files of one folder whose package clause has a doc comment, out of all Go files that are not
// tests.
func packageDocs(dir string, files []string) (documented []string, err error) {
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if f.Doc != nil {
			documented = append(documented, name)
		}
	}
	return documented, nil
}

func TestEachPackageHasOneDoc(t *testing.T) {
	for _, p := range list(t) {
		if !ours(p.ImportPath) || len(p.GoFiles) == 0 {
			continue
		}
		documented, err := packageDocs(p.Dir, p.GoFiles)
		if err != nil {
			t.Fatal(err)
		}
		if len(documented) != 1 {
			t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(documented), documented)
		}
	}
}

func TestPackageDocsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go": "// Package a does.\npackage a\n",
		"b.go": "// Detached comment.\n\npackage a\n",
		"c.go": "package a\n",
		"d.go": "// Package a does again.\npackage a\n",
	} {
		if err := os.WriteFile(path.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		files []string
		want  int
	}{{[]string{"b.go", "c.go"}, 0}, {[]string{"a.go", "b.go"}, 1}, {[]string{"a.go", "d.go"}, 2}} {
		if got, err := packageDocs(dir, tt.files); err != nil || len(got) != tt.want {
			t.Errorf("%v: %v, %v; want %d", tt.files, got, err, tt.want)
		}
	}
}

// maxLines keeps a file readable in one sitting.
const maxLines = 500

func TestFilesAreShort(t *testing.T) {
	for _, p := range list(t) {
		if !ours(p.ImportPath) {
			continue
		}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte("\n")); n > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d", p.ImportPath, name, n, maxLines)
			}
		}
	}
}
