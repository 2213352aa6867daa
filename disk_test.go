package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// changers are the functions that change a file system by a path: a "..", a link or a swapped parent in it leads elsewhere. What a device
// names is written below an open directory instead, one component after the other, in package receive.
var changers = map[string][]string{
	"os": {"Chmod", "Chown", "Chtimes", "CopyFS", "Create", "CreateTemp", "Lchown", "Link", "Mkdir", "MkdirAll", "MkdirTemp", "OpenFile", "Remove",
		"RemoveAll", "Rename", "Symlink", "Truncate", "WriteFile"},
	"ioutil": {"TempDir", "TempFile", "WriteFile"},
	"unix": {"Chmod", "Chown", "Creat", "Fchmodat", "Fchownat", "Lchown", "Link", "Linkat", "Mkdir", "Mkdirat", "Mkfifo", "Mkfifoat", "Mknod", "Mknodat", "Mount",
		"Open", "Openat", "Openat2", "Rename", "Renameat", "Renameat2", "Rmdir", "Symlink", "Symlinkat", "Truncate", "Unlink", "Unlinkat"},
	"syscall": {"Chmod", "Chown", "Creat", "Link", "Mkdir", "Mkdirat", "Mkfifo", "Mknod", "Mknodat", "Mount", "Open", "Openat", "Rename", "Renameat", "Rmdir",
		"Symlink", "Truncate", "Unlink", "Unlinkat"},
	"sandbox": {"Linkat", "Mkdirat", "MkdirAll", "Openat", "RemoveAll", "Renameat2", "Unlinkat"},
}

// paths are the files of the program that call them, and why no device has a word in the path.
var paths = map[string]string{
	"agent/agent.go":             "the inbox, of the configuration",
	"agent/chosen.go":            "what a person chose, in the state folder, and the inbox",
	"agent/config.go":            "the configuration, only to read",
	"agent/trust/copy.go":        "the copy of the trust book in the state folder",
	"cli/trustmove.go":           "the person's command",
	"agent/control/socket.go":    "the local socket, of the configuration",
	"agent/doctor/deeds.go":      "a constant",
	"agent/doctor/remedy.go":     "paths of the remedies, which are constants",
	"agent/identity/identity.go": "the key in the state folder",
	"agent/pairing/given.go":     "the file of the configuration, only to read",
	"agent/private/guarded.go":   "the administrator's file and that of the boot partition, only to read",
	"agent/private/private.go":   "the state folder",
	"agent/store/store.go":       "the database in the state folder",
	"agent/receive/folder.go":    "names checked, in an open directory; by path only the folder that the person chose",
	"agent/receive/writer.go":    "names checked, in an open directory, following no link",
	"systemd/service.go":         "a folder of its own for the recipe, and the file beside the unit of a user of this machine",
	"agent/sandbox/broker.go":    "below what the person granted",
	"agent/sandbox/landlock.go":  "O_PATH, of the folders of the configuration",
	"agent/sandbox/sandbox.go":   "the same calls as package receive makes them",
	"agent/share/folder.go":      "only to read",
	"agent/transfer/reader.go":   "only to read",
	"cli/bugreport.go":           "the person's command",
	"cli/send.go":                "only to read, the person's command",
	"link/book.go":               "the link book in the state folder",
	"link/read.go":               "a sysctl of an interface, by the kernel's name of it",
	"main_probe.go":              "in no released program",
	"wpa/engine_private.go":      "the folder of the private engine, beside the socket",
	"wpa/record.go":              "the radio's record in the state folder",
	"wpa/rfkill.go":              "a constant, only to read",
}

// readers are the files that may open but not make or change.
var readers = []string{"agent/share/folder.go", "agent/transfer/reader.go"}

// calls returns the changers that a file names, each once, in order, and whether it asks for a file to be made or written.
func calls(file string, src any) (names []string, writes bool, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, false, err
	}
	found := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		if slices.Contains(changers[pkg.Name], sel.Sel.Name) {
			found[pkg.Name+"."+sel.Sel.Name] = true
		}
		if slices.Contains([]string{"O_CREAT", "O_CREATE", "O_WRONLY", "O_RDWR", "O_TRUNC", "O_APPEND", "O_TMPFILE"}, sel.Sel.Name) {
			writes = true
		}
		return true
	})
	return slices.Sorted(maps.Keys(found)), writes, nil
}

// Nothing of the program changes a file by a path but what the table says.
func TestNoDeviceNamesAPath(t *testing.T) {
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range list(t) {
		if !ours(p.ImportPath) || below("nigh/lab", p.ImportPath) || strings.HasPrefix(p.ImportPath, "nigh/wpa/wpatest") {
			continue
		}
		files := p.GoFiles
		if p.ImportPath == "nigh" {
			files = append(files, "main_probe.go") // built with its tag alone
		}
		for _, name := range files {
			path := filepath.Join(p.Dir, name)
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			got, writes, err := calls(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			seen[rel] = true
			if _, known := paths[rel]; len(got) > 0 != known {
				t.Errorf("%s calls %q, and in the table: %v. What a device names is written through package receive", rel, got, known)
			}
			if writes && slices.Contains(readers, rel) {
				t.Errorf("%s opens a file to write", rel)
			}
		}
	}
	for file, why := range paths {
		if !seen[file] {
			t.Errorf("the table has %s, which is not there", file)
		}
		if why == "" {
			t.Errorf("the table has no reason for %s", file)
		}
	}
}

func TestPathsAreFound(t *testing.T) {
	for _, tt := range []struct {
		body   string
		calls  string
		writes bool
	}{
		{`os.Create(name)`, "os.Create", false},
		{`f := os.Rename; f(a, b)`, "os.Rename", false},
		{`root.Create(name); dir.Remove(name); os.Open(name)`, "", false},
		{`unix.Openat(fd, name, unix.O_CREAT, 0)`, "unix.Openat", true},
		{`os.Remove(a); os.Remove(b); os.Mkdir(c, 0)`, "os.Mkdir os.Remove", false},
	} {
		got, writes, err := calls("x.go", fmt.Sprintf("package x\nfunc f() { %s }\n", tt.body))
		if err != nil || strings.Join(got, " ") != tt.calls || writes != tt.writes {
			t.Errorf("%s: %q, %v, %v", tt.body, got, writes, err)
		}
	}
}
