package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the tables of LIMITS.md from the source")

// limitsMark is the line of LIMITS.md below which everything is made from the source.
const limitsMark = "<!-- The tables below are made by: go test -run TestLimits . -update -->\n"

// limitFiles are those in which every constant is a bound; in all others those are whose names say so.
var limitFiles = regexp.MustCompile(`(^|/)limits\.go$|^agent/(prove|requests|inbound)\.go$`)

var limitName = regexp.MustCompile(`^[mM]ax[A-Z]|Max$|^flood[A-Z]|PerSecond$|PerSec$|PerHour$|AtOnce$|Burst$|Limit$`)

// notLimits are constants that are called like bounds and are none.
var notLimits = map[string]string{
	"agent/recognise.maxMembers":  "the largest number that four bits hold",
	"agent/recognise.maxTextTags": "what fits a TXT string",
	"agent/recognise.MaxTags":     "what fits an advert",
	"agent/session.unknownCost":   "a cost",
	"agent/session.defaultPort":   "a port",
	"agent/session.firstUserPort": "a port",
	"agent/session.maxRecord":     "of the TLS specification",
	"agent/transfer.maxSeconds":   "times that time.Time can show",
	"agent/message.maxShareOwn":   "half of maxHistory",
	"agent/identity.maxText":      "four times the length of an ID",
	"agent/pairing.maxCodeText":   "four times the length of a code",
	"agent/clean.maxMarks":        "marks on one letter that are shown",
	"agent/control.maxSocketPath": "of the kernel",
	"agent/sandbox.maxPath":       "of the kernel",
	"agent.maxZone":               "of the kernel",
	"agent.maxHostLabel":          "of RFC 1035",
	"link.tableIndexMax":          "a number in the kernel's tables",
	"wpa.maxPostfix":              "what fits an SSID",
	"wpa.maxDNSName":              "of RFC 1035",
	"wpa.maxLabel":                "of RFC 1035",
	"wpa/dbusapi.maxIfname":       "of the kernel",
	"wpa/dbusapi.GroupLimit":      "a flag",
}

// skipped are those of notLimits that were found.
var skipped = map[string]bool{}

// limit is one bound: a row of LIMITS.md.
type limit struct {
	pkg, name, value, reason string
}

// TestLimits holds LIMITS.md against the source: every bound is in it with its value and reason, and nothing else.
func TestLimits(t *testing.T) {
	var limits []limit
	for _, root := range []string{"agent", "discovery", "link", "wpa"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if name := d.Name(); name == "testdata" || name == "wpatest" || name == "doctor" {
				return filepath.SkipDir
			}
			found, err := limitsOf(path)
			limits = append(limits, found...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(limits) < 200 {
		t.Fatalf("only %d bounds were found in the source", len(limits))
	}
	for _, l := range limits {
		if l.reason == "" {
			t.Errorf("%s.%s has no comment that says what it bounds", l.pkg, l.name)
		}
	}
	for name := range notLimits {
		if !skipped[name] {
			t.Errorf("there is no constant %s that could be left out", name)
		}
	}
	file, err := os.ReadFile("LIMITS.md")
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(file), limitsMark)
	if !ok {
		t.Fatal("LIMITS.md has no line that says where its tables begin")
	}
	for _, name := range regexp.MustCompile("`([a-z]+[A-Z][A-Za-z]+)`").FindAllStringSubmatch(text, -1) {
		found := false
		for _, l := range limits {
			found = found || l.name == name[1]
		}
		if !found {
			t.Errorf("LIMITS.md speaks of %s, which the source does not have", name[1])
		}
	}
	want := text + limitsMark + limitTables(limits)
	if *update {
		if err := os.WriteFile("LIMITS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want == string(file) {
		return
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(file)) {
		have[line] = true
	}
	for line := range strings.Lines(want) {
		if !have[line] {
			t.Errorf("LIMITS.md has no line: %s", line)
		}
	}
	t.Error("LIMITS.md is not what the source says; mend it by: go test -run TestLimits . -update")
}

// limitTables renders the bounds, a table for each package.
func limitTables(limits []limit) string {
	var b strings.Builder
	pkg, before := "", ""
	for _, l := range limits {
		if l.reason == before { // of a comment above several
			l.reason = "as above"
		} else {
			before = l.reason
		}
		if l.pkg != pkg {
			pkg = l.pkg
			fmt.Fprintf(&b, "\n## %s\n\n| bound | value | of what, and why |\n|---|---|---|\n", pkg)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", l.name, l.value, strings.ReplaceAll(l.reason, "|", "\\|"))
	}
	return b.String()
}

// timeOnly imports package time; the bounds need no other.
type timeOnly struct{ types.Importer }

func (i timeOnly) Import(path string) (*types.Package, error) {
	if path != "time" {
		return nil, os.ErrNotExist
	}
	return i.Importer.Import(path)
}

var times = timeOnly{importer.ForCompiler(token.NewFileSet(), "source", nil)}

// limitsOf returns the bounds of the package in a folder.
func limitsOf(folder string) ([]limit, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, nil
	}
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}}
	cfg := types.Config{Importer: times, IgnoreFuncBodies: true, Error: func(error) {}} // of packages that are not imported
	_, _ = cfg.Check(folder, fset, files, info)
	var limits []limit
	for _, f := range files {
		path := filepath.ToSlash(fset.Position(f.Pos()).Filename)
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, decl := range f.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			above := sentence(g.Doc)
			for _, spec := range g.Specs {
				s := spec.(*ast.ValueSpec)
				if s.Doc != nil {
					above = sentence(s.Doc)
				}
				for i, name := range s.Names {
					if notLimits[folder+"."+name.Name] != "" {
						skipped[folder+"."+name.Name] = true
						continue
					}
					if !limitFiles.MatchString(path) && !limitName.MatchString(name.Name) || len(s.Values) <= i {
						continue
					}
					reason := sentence(s.Comment)
					if reason == "" {
						reason = above
					}
					expr := string(source[fset.Position(s.Values[i].Pos()).Offset:fset.Position(s.Values[i].End()).Offset])
					limits = append(limits, limit{folder, name.Name, limitValue(info.Defs[name], expr), reason})
				}
			}
		}
	}
	return limits, nil
}

// limitValue renders the value of a constant: a time, a size where it is written as one, or a number.
func limitValue(o types.Object, expr string) string {
	c, ok := o.(*types.Const)
	if !ok || c.Val().Kind() != constant.Int {
		return "`" + expr + "`"
	}
	n, _ := constant.Int64Val(c.Val())
	if c.Type().String() == "time.Duration" {
		return time.Duration(n).String()
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if strings.Contains(expr, "<<") {
		for i := len(units) - 1; i >= 0; i-- {
			if unit := int64(1) << (10 * (i + 1)); n >= unit && n%unit == 0 {
				return fmt.Sprintf("%d %s", n/unit, units[i])
			}
		}
	}
	return fmt.Sprint(n)
}

// sentence is a comment on one line.
func sentence(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return string(bytes.Join(bytes.Fields([]byte(c.Text())), []byte(" ")))
}

// The table is not empty words: a bound without a comment, or with another value, is found.
func TestLimitsFindsWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	source := "package x\n\nimport \"time\"\n\nconst (\n\tmaxThings = 4 << 10 // of things\n\tmaxWait = 3 * time.Second\n\tother = 5\n)\n"
	if err := os.WriteFile(filepath.Join(folder, "x.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := limitsOf(folder)
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(got, func(i, j int) bool { return got[i].name < got[j].name })
	want := []limit{{folder, "maxThings", "4 KiB", "of things"}, {folder, "maxWait", "3s", ""}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
