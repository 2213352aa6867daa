package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseList(t *testing.T) {
	got := parseList("FuzzA\nFuzzB\nok  \tnigh/a\t0.01s\n?   \tnigh/b\t[no test files]\nFuzzC\nok  \tnigh/c\t(cached)\n")
	want := []target{{"nigh/a", "FuzzA"}, {"nigh/a", "FuzzB"}, {"nigh/c", "FuzzC"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRunTellsFindingFromNone(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module small\n\ngo 1.26\n",
		"a_test.go": `package small
import "testing"
func FuzzCalm(f *testing.F) { f.Add("a"); f.Fuzz(func(t *testing.T, s string) {}) }
func FuzzFinds(f *testing.F) { f.Add("a"); f.Fuzz(func(t *testing.T, s string) { if len(s) > 1 { t.Error("long") } }) }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	targets, err := list(t.Context(), []string{"./..."})
	if err != nil || len(targets) != 2 {
		t.Fatalf("got %v, %v, want two targets", targets, err)
	}
	if runs, out, err := targets[0].run(t.Context(), time.Second, 1); err != nil || runs == 0 {
		t.Errorf("%s: %d runs, %v\n%s", targets[0].name, runs, err, out)
	}
	if _, out, err := targets[1].run(t.Context(), 30*time.Second, 1); err == nil || !strings.Contains(out, "long") {
		t.Errorf("%s: %v\n%s", targets[1].name, err, out)
	}
}
