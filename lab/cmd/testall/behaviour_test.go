package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestBehaviourLines reads what the lab says of behaviours, and checks the lines, the sums and the table.
func TestBehaviourLines(t *testing.T) {
	var out bytes.Buffer
	all := newTally(&out)
	all.behaviours = &behaviours{out: &out, cells: map[string]map[string]outcome{}}
	say := func(action, pkg, test string) {
		all.event(fmt.Appendf(nil, `{"Action":%q,"Package":%q,"Test":%q,"Elapsed":12.34}`, action, pkg, test))
	}
	for n := 1; n <= lastBehaviour; n++ {
		if n == 9 || n == 20 {
			continue
		}
		name := fmt.Sprintf("TestBehaviour%02dName", n)
		say("run", "nigh/wpa", name)
		say("pass", "nigh/wpa", name+"/part")
		say("pass", "nigh/wpa", name)
	}
	say("fail", "nigh/wpa", "TestBehaviour25Other")
	say("pass", "nigh/wpa", "TestSomethingElse")
	all.behaviours.summary(all)
	text := out.String()
	for _, want := range []string{
		" 3  Name                                     passed    12.3 s\n",
		"25  Other                                    FAILED    12.3 s\n",
		"23 of 25 behaviours ran, 22 passed; 9, 20 did not run\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("not once %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "Name  "); n != 23 {
		t.Errorf("%d lines", n)
	}
	if all.failed != 3 { // one failed and two did not run
		t.Errorf("%d failed", all.failed)
	}

	out.Reset()
	all.failed = 0
	cells := matrixCells()
	for _, cell := range cells {
		for _, n := range matrixBehaviours {
			if cell == cells[3] && n == 7 {
				continue
			}
			action := "pass"
			if cell == cells[5] && n == 17 {
				action = "fail"
			}
			say(action, "nigh/wpa@"+cell, fmt.Sprintf("TestBehaviour%02dName", n))
		}
	}
	all.behaviours.table(all)
	if all.failed != 2 {
		t.Errorf("%d failed, not also the one that did not run and the one that failed", all.failed)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	table := lines[len(lines)-len(cells)-1:]
	var rows []string
	for _, line := range table {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	if rows[0] != "cell 3 4 7 10 17" || rows[4] != cells[3]+" passed passed - passed passed" || rows[6] != cells[5]+" passed passed passed passed FAILED" {
		t.Errorf("table:\n%s", strings.Join(table, "\n"))
	}
}

// TestMatrixCells checks that each setting meets each other one.
func TestMatrixCells(t *testing.T) {
	cells := matrixCells()
	if len(cells) != 15 || cells[0] != "p2pdevice=off" || cells[14] != "p2pdevice=off,channels=2,names=long,supplicant=2.11" {
		t.Errorf("cells are %q", cells)
	}
	if sorted := slices.Sorted(slices.Values(cells)); len(slices.Compact(sorted)) != 15 {
		t.Errorf("cells are %q", cells)
	}
}
