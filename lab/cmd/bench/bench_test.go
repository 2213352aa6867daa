package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEqualTellsTreesApart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(root string) error
		differ bool
	}{
		{"same", func(string) error { return nil }, false},
		{"missing file", func(root string) error { return os.Remove(filepath.Join(root, "d00/f00000")) }, true},
		{"more", func(root string) error { return os.WriteFile(filepath.Join(root, "x"), nil, 0o600) }, true},
		{"shorter", func(root string) error { return os.Truncate(filepath.Join(root, "d01/f00001"), 4095) }, true},
		{"one bit", func(root string) error {
			f, err := os.OpenFile(filepath.Join(root, "d01/f00001"), os.O_RDWR, 0)
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
			name := filepath.Join(root, "d00/f00000")
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
				sets, err := makeSets(t.TempDir(), 1, treeFolders+2)
				if err != nil {
					t.Fatal(err)
				}
				trees[i] = sets[1].path
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

func TestReportComparesMedians(t *testing.T) {
	s := set{fileSet, "one file", "", 1e9}
	tools := []tool{{name: "nc"}, {name: "scp"}, {name: "nigh"}}
	runs := func(seconds ...float64) (m []measurement) {
		for _, s := range seconds {
			m = append(m, measurement{wall: time.Duration(s * float64(time.Second)), senderRSS: 7 << 20})
		}
		return m
	}
	var out bytes.Buffer
	report(&out, s, tools, map[string][]measurement{"nc": runs(9, 1, 1.2), "scp": runs(3, 5), "nigh": runs(2, 1, 1.8)})
	for _, want := range []string{
		"| nc | 1.20 (1.00 to 9.00) | 833 |", "| scp | 4.00 (3.00 to 5.00) | 250 |", "| nigh | 1.80 ", "| 7 |",
		"| nc | 1.50 | ≤ 1.33 | missed |", "| scp | 0.45 | ≤ 0.40 | missed |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestReadyFindsThePeer(t *testing.T) {
	for _, tt := range []struct {
		out  string
		want bool
	}{
		{`[{"id":"A","state":"away"},{"id":"B","state":"ready"}]`, true},
		{"{\"id\":\"A\",\"state\":\"ready\"}\n{\"id\":\"B\",\"state\":\"ready\"}\n", true},
		{`[{"id":"A","state":"ready"},{"id":"B","state":"visible"}]`, false},
		{`[]`, false},
		{`nigh: error`, false},
	} {
		if got := ready([]byte(tt.out), "B"); got != tt.want {
			t.Errorf("%s: %v", tt.out, got)
		}
	}
}
