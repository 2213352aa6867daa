package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nigh/lab"
)

// keep is the remedy for NetworkManager with its file in a folder of the test.
func keep(t *testing.T, reload func(context.Context) error) *Remedy {
	t.Helper()
	r := Find(Remedies(""), "networkmanager")
	if r == nil {
		t.Fatal("no remedy for NetworkManager")
	}
	r.Path = filepath.Join(t.TempDir(), "system.d", filepath.Base(r.Path))
	r.journal = filepath.Join(t.TempDir(), "var/fixes.json")
	r.reload = reload
	return r
}

// steps is a remedy of every kind of step at once, with commands that leave a trace in a folder.
func steps(t *testing.T, fail bool) (r *Remedy, trace func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	say := func(word string) []string { return []string{"sh", "-c", "echo " + word + " >> " + log} }
	r = &Remedy{
		Name: "steps", Path: filepath.Join(dir, "etc/conf"), Text: "ours\n", journal: filepath.Join(dir, "fixes.json"),
		apply: [][]string{say("apply")}, back: [][]string{say("back")}, after: [][]string{say("after")},
	}
	if fail {
		r.apply = append(r.apply, []string{"sh", "-c", "echo no such zone >&2; exit 3"})
	}
	return r, func() string {
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
}

func TestRemedyOfFileAndCommands(t *testing.T) {
	r, trace := steps(t, false)
	again := *r // as another run of the program has it
	plan, err := r.Plan(t.Context(), false)
	if err != nil || len(plan) != 1 || !strings.HasPrefix(plan[0], "sh -c 'echo apply") {
		t.Errorf("plan %q, %v", plan, err)
	}
	for range 2 {
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(r.Path); string(text) != "ours\n" || err != nil || trace() != "apply" {
		t.Errorf("%q, %v, %s", text, err, trace())
	}
	if there, err := again.InForce(); !there || err != nil {
		t.Errorf("in force: %v, %v", there, err)
	}
	if plan, err := again.Plan(t.Context(), true); err != nil || len(plan) != 2 {
		t.Errorf("plan of the undo %q, %v", plan, err)
	}
	again.back, again.after = nil, nil // a later version may know others: those of the journal count
	for range 2 {
		if err := again.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if trace() != "apply back after" {
		t.Error(trace())
	}
	for _, path := range []string{r.Path, r.journal} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The folders that were made for the file go with it, and no others: neither those that were there, nor those that somebody else
// has put something into.
func TestRemedyTakesItsFoldersBack(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func() *Remedy{
		"file and commands": func() *Remedy { r, _ := steps(t, false); return r },
		"failing command":   func() *Remedy { r, _ := steps(t, true); return r },
		"file and reader":   func() *Remedy { return keep(t, func(context.Context) error { return nil }) },
		"deaf reader":       func() *Remedy { return keep(t, func(context.Context) error { return errors.New("deaf") }) },
	} {
		for _, foreign := range []string{"", "made/of-others"} {
			root := filepath.Join(dir, name+foreign)
			if err := os.MkdirAll(filepath.Join(root, "there"), 0o755); err != nil {
				t.Fatal(err)
			}
			r := make()
			r.Path, r.journal = filepath.Join(root, "there/made/deep/conf"), filepath.Join(root, "var/fixes.json")
			err := r.Apply(t.Context())
			if failing := name == "failing command" || name == "deaf reader"; failing != (err != nil) {
				t.Fatalf("%s: %v", name, err)
			}
			want := []string{}
			if foreign != "" && err == nil {
				if err := os.WriteFile(filepath.Join(root, "there", foreign), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				want = []string{"made"}
			}
			again := *r // as another run of the program has it
			if err := again.Undo(t.Context()); err != nil {
				t.Fatal(err)
			}
			left, err := filepath.Glob(filepath.Join(root, "there/*"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range left {
				left[i] = filepath.Base(left[i])
			}
			if !slices.Equal(left, want) {
				t.Errorf("%s: left are %q, not %q", name, left, want)
			}
		}
	}
}

// A file that was there before, as the package installs it, is not ours to remove.
func TestRemedyKeepsTheFileOfThePackage(t *testing.T) {
	r, _ := steps(t, false)
	if err := replaceFile(r.Path, r.Text, 0o644); err != nil {
		t.Fatal(err)
	}
	if there, err := r.InForce(); there || err != nil {
		t.Errorf("in force before: %v, %v", there, err)
	}
	if err := errors.Join(r.Apply(t.Context()), r.Undo(t.Context())); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(r.Path); string(text) != r.Text || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRemedyWhoseCommandFails(t *testing.T) {
	r, trace := steps(t, true)
	err := r.Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no such zone") {
		t.Errorf("%v", err)
	}
	if trace() != "apply back after" {
		t.Errorf("the commands were %s", trace())
	}
	if there, err := r.InForce(); there || err != nil {
		t.Errorf("in force: %v, %v", there, err)
	}
	if _, err := os.Stat(r.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}

// dhcpcd.conf is the administrator's: our lines go before it and come out again, whatever else was changed.
func TestRemedyInAnAdministratorsFile(t *testing.T) {
	r := Find(Remedies(""), "dhcpcd")
	dir := t.TempDir()
	r.Path, r.journal = filepath.Join(dir, "dhcpcd.conf"), filepath.Join(dir, "fixes.json")
	r.apply, r.after = nil, nil
	if err := os.WriteFile(r.Path, []byte("hostname\ninterface eth0\nstatic ip_address=10.0.0.2/24\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(r.Path)
	if err != nil || dhcpcdKeepsOff(string(before)) {
		t.Fatalf("%s, %v", before, err)
	}
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.Path)
	if err != nil || !dhcpcdKeepsOff(string(text)) || !strings.HasSuffix(string(text), string(before)) {
		t.Fatalf("%s, %v", text, err)
	}
	if err := os.WriteFile(r.Path, append([]byte("# mine\n"), text...), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := r.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(r.Path); string(text) != "# mine\n"+string(before) || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(r.Path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestRemediesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Remedies("") {
		if seen[r.Name] || r.Name == "" || r.Does == "" || (r.Path == "") != (r.Text == "") || r.journal == "" {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
		if len(r.apply) == 0 && r.look == nil && r.reload == nil {
			t.Errorf("%s: nobody reads the file", r.Name)
		}
		if r.Path == "" && r.back == nil && r.lookBack == nil {
			t.Errorf("%s cannot be taken back", r.Name)
		}
	}
}

func FuzzDeeds(f *testing.F) {
	f.Add([]byte(`[{"name":"ufw","path":"/etc/ufw/applications.d/nigh","text":"x","back":[["ufw","delete","allow","Nigh"]]}]`))
	f.Add([]byte(`[{"name":"networkd","path":"/etc/systemd/network/a","text":"x","above":"/var"}]`))
	f.Add([]byte(`[{"name":"x","back":[["/tmp/evil"]]}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := parseDeeds(raw)
		if err != nil {
			return
		}
		for _, d := range all {
			if d.Above != "" && !strings.HasPrefix(d.Path, d.Above+"/") {
				t.Errorf("%s would go with %s", d.Above, d.Path)
			}
			for _, c := range slices.Concat(d.Back, d.After) {
				if len(c) == 0 || strings.Contains(c[0], "/") {
					t.Errorf("%q would be run", c)
				}
			}
		}
	})
}

func TestRemedyIsWrittenAndTakenBack(t *testing.T) {
	reloads := 0
	r := keep(t, func(context.Context) error { reloads++; return nil })
	if there, err := r.InForce(); there || err != nil {
		t.Fatalf("in force before: %v, %v", there, err)
	}
	if err := r.Allowed(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(r.Path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("file: %v, %v", info, err)
	}
	if there, err := r.InForce(); !there || err != nil {
		t.Errorf("in force after: %v, %v", there, err)
	}
	for range 2 {
		if err := r.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(r.Path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if reloads != 2 {
		t.Errorf("the bus was told %d times", reloads)
	}
}

func TestRemedyLeavesForeignFilesAlone(t *testing.T) {
	r := keep(t, func(context.Context) error { t.Error("the bus was told"); return nil })
	if err := os.MkdirAll(filepath.Dir(r.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path, []byte("<busconfig/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"apply": r.Apply(t.Context()), "undo": r.Undo(t.Context())} {
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, err := os.ReadFile(r.Path); string(text) != "<busconfig/>" || err != nil {
		t.Errorf("file is %q, %v", text, err)
	}
}

// A file that the bus was not told of would come into force at some later time, unnoticed.
func TestRemedyThatFailsLeavesNothing(t *testing.T) {
	deaf := errors.New("deaf")
	r := keep(t, func(context.Context) error { return deaf })
	if err := r.Apply(t.Context()); !errors.Is(err, deaf) {
		t.Errorf("apply: %v", err)
	}
	if list, err := os.ReadDir(filepath.Dir(r.Path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// TestReloadBus has a real bus read its policies again, and one that is not there.
func TestReloadBus(t *testing.T) {
	bus := lab.SessionBus(t)
	if err := reloadBus(t.Context(), bus); err != nil {
		t.Error(err)
	}
	if err := reloadBus(t.Context(), "unix:path="+filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "bus") {
		t.Errorf("no bus: %v", err)
	}
}
