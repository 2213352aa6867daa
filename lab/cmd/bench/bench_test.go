package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEqualTellsTreesApart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(root string) error
		differ bool
	}{
		{"same", func(string) error { return nil }, false},
		{"missing file", func(root string) error { return os.Remove(filepath.Join(root, "d000/f000000")) }, true},
		{"more", func(root string) error { return os.WriteFile(filepath.Join(root, "x"), nil, 0o600) }, true},
		{"shorter", func(root string) error { return os.Truncate(filepath.Join(root, "d001/f000001"), 4095) }, true},
		{"one bit", func(root string) error {
			f, err := os.OpenFile(filepath.Join(root, "d001/f000001"), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, 4000); err != nil {
				return err
			}
			b[0] ^= 1
			_, err = f.WriteAt(b, 4000)
			return err
		}, true},
		{"folder for a file", func(root string) error {
			name := filepath.Join(root, "d000/f000000")
			if err := os.Remove(name); err != nil {
				return err
			}
			return os.Mkdir(name, 0o700)
		}, true},
		{"nothing there", os.RemoveAll, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var trees [2]string
			for i := range trees {
				s, err := makeSet(t.TempDir(), smallSet, 1, treeFolders+2)
				if err != nil {
					t.Fatal(err)
				}
				trees[i] = s.path
			}
			if err := tt.change(trees[1]); err != nil {
				t.Fatal(err)
			}
			if err := equal(trees[0], trees[1]); (err != nil) != tt.differ {
				t.Errorf("equal: %v", err)
			}
		})
	}
}

func TestMixedSizes(t *testing.T) {
	var seed [32]byte
	sizes := mixedSizes(rand.NewChaCha8(seed))
	sum, below := int64(0), 0
	for _, n := range sizes {
		if n < 0 {
			t.Fatalf("a file of %d bytes", n)
		}
		sum += n
		if n < 256<<10 {
			below++
		}
	}
	if len(sizes) != mixedFiles || sum != mixedBytes {
		t.Errorf("%d files, %d bytes", len(sizes), sum)
	}
	if below < mixedFiles/2 || below == mixedFiles {
		t.Errorf("%d of %d files are small", below, mixedFiles)
	}
	if again := mixedSizes(rand.NewChaCha8(seed)); !slices.Equal(sizes, again) {
		t.Error("another run has other sizes")
	}
}

// compared is a comparison of three tools, with medians of 1.2, 4 and 1.8 s.
func compared() comparison {
	runs := func(seconds ...float64) (m []measurement) {
		for _, s := range seconds {
			m = append(m, measurement{wall: time.Duration(s * float64(time.Second)), senderRSS: 7 << 20})
		}
		return m
	}
	return comparison{
		set:     set{largeSet, "one file", "", 1e9},
		tools:   []string{"nc", "scp", ours},
		results: map[string][]measurement{"nc": runs(9, 1, 1.2), "scp": runs(3, 5), ours: runs(2, 1, 1.8)},
	}
}

func TestReportComparesMedians(t *testing.T) {
	r := report{run: run{rounds: 3}, comparisons: []comparison{compared()}, rows: map[string][]row{
		"size":   {judge("size", "≤ 1", "2", false)},
		"listed": {judge("listed", "≤ 1", "0", true)},
	}}
	var out bytes.Buffer
	r.print(&out)
	at := 0
	for _, want := range []string{
		"Medians of 3 rounds",
		"| Wi-Fi Direct in the lab: group started to first payload byte | ≤ 0.3 s | left out: `-radio` measures it | not measured |",
		"| listed | ≤ 1 | 0 | met |",
		"| one file, beside nc | ≥ 0.75 × its rate | 0.67 × | missed |", "| one file, beside scp | ≥ 2.50 × its rate | 2.22 × | missed |",
		"| size | ≤ 1 | 2 | missed |",
		"### One file",
		"| nc | 1.50 | 1.20 (1.00 to 9.00) | 833 |", "| scp | 0.45 | 4.00 (3.00 to 5.00) | 250 |", "| nigh |  | 1.80 ", "| 7 |",
	} {
		i := strings.Index(out.String()[at:], want)
		if i < 0 {
			t.Fatalf("report lacks %q after byte %d:\n%s", want, at, out.String())
		}
		at += i
	}
}

func TestChartHasABarForEachTool(t *testing.T) {
	c := compared()
	picture, err := chart([]comparison{c, c})
	if err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(picture))
	labels := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			labels[string(text)]++
		}
	}
	for _, tool := range c.tools {
		if labels[tool] != 2 {
			t.Errorf("%s is named %d times in %v", tool, labels[tool], labels)
		}
	}
	if got := c.fastest(); !slices.Equal(got, []string{"nc", ours, "scp"}) {
		t.Errorf("sorted: %q", got)
	}
}

func TestWriteReplacesWhatIsBetweenTheMarks(t *testing.T) {
	top := t.TempDir()
	text := "# nigh\n" + beginMark + "\nstale words\n" + endMark + "\nrest\n"
	if err := os.MkdirAll(filepath.Join(top, filepath.Dir(tableFile)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, readme), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := report{run: run{rounds: 2}, comparisons: []comparison{compared()}}
	for range 2 { // the second finds what the first has left
		if err := r.write(top); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(top, readme))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(got); !strings.HasPrefix(s, "# nigh\n"+beginMark+"\n![How fast") || !strings.Contains(s, "Medians of 2 rounds") || !strings.HasSuffix(s, "|\n"+endMark+"\nrest\n") || strings.Contains(s, "stale") || strings.Count(s, "| what |") != 1 {
		t.Errorf("README:\n%s", s)
	}
	for _, name := range []string{tableFile, chartFile} {
		if info, err := os.Stat(filepath.Join(top, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := between([]byte("no marks"), "x"); err == nil {
		t.Error("a text without marks is taken")
	}
}

func TestRadioRows(t *testing.T) {
	text := `MEDIAN OF 3               COMMAND TO GROUPSTARTED  THEN TO FIRST BYTE  THEN TO FIRST 256 KIB SHOWN  COMMAND TO FIRST BYTE
new group, sender is GO      7.10 s                   0.21 s              0.30 s                       7.31 s
new group, sender is client  6.00 s                   0.35 s              0.40 s                       6.35 s
persistent group again       1.20 s                   0.10 s              0.20 s                       1.30 s
`
	rows, err := radioRows(text)
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].figure != "0.35 s" || rows[0].verdict != missed || rows[1].figure != "1.30 s" || rows[1].verdict != met {
		t.Errorf("%+v", rows)
	}
	if _, err := radioRows(strings.Replace(text, "persistent", "other", 1)); err == nil {
		t.Error("a table without one of its lines is taken")
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(order)-1 { // radio has a flag of its own
		t.Fatalf("%v, %v", all, err)
	}
	for _, name := range order {
		if name != "radio" && !all[name] {
			t.Errorf("%s is not played", name)
		}
	}
	some, err := choose("large,idle")
	if err != nil || !some[largeSet] || !some["idle"] || some[smallSet] || some["size"] {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose("large,lare"); err == nil {
		t.Error("a name that is none is taken")
	}
}

// A fault ends the scenario where it is, what was to be cleaned up is, and all errors are told.
func TestStageCleansUpAfterAFault(t *testing.T) {
	var order []string
	dir := ""
	err := perform(t.Context(), run{}, "play", t.TempDir(), func(s *stage) {
		dir = s.TempDir()
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() { order = append(order, "second"); s.Fatal("late fault") })
		s.must(os.ErrNotExist)
		order = append(order, "after")
	})
	if !slices.Equal(order, []string{"second", "first"}) {
		t.Errorf("order: %q", order)
	}
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "late fault") || !strings.Contains(err.Error(), "play") {
		t.Errorf("error: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
	if err := perform(t.Context(), run{}, "play", t.TempDir(), func(*stage) {}); err != nil {
		t.Error(err)
	}
}

// A process is counted with those that it has started.
func TestRunningCountsTheFamily(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 100 & sleep 100 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	var pids []int
	err := until(t.Context(), "the shell has no children", func() bool {
		var err error
		pids, err = family(cmd.Process.Pid)
		return err == nil && len(pids) == 3
	})
	if err != nil {
		t.Fatal(err, pids)
	}
	_, rss, err := running(cmd.Process.Pid)
	own, ownErr := status(cmd.Process.Pid, "VmHWM:")
	if err != nil || ownErr != nil || rss <= own || rss > 20<<20 {
		t.Errorf("%d bytes in all, %d of the shell: %v, %v", rss, own, err, ownErr)
	}
	for _, pid := range pids {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = cmd.Wait()
	if _, _, err := running(cmd.Process.Pid); err == nil {
		t.Error("a process that is gone is measured")
	}
}
