package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSecondTry(t *testing.T) {
	line := func(action, pkg, test string) string {
		return fmt.Sprintf(`{"Action":%q,"Package":%q,"Test":%q}`+"\n", action, pkg, test)
	}
	fill := func(fails ...string) *tally {
		all := newTally(&bytes.Buffer{})
		all.event([]byte(line("pass", "p", "TestGood")))
		for _, f := range fails {
			pkg, test, _ := strings.Cut(f, " ")
			if top, _, sub := strings.Cut(test, "/"); sub {
				all.event([]byte(line("run", pkg, test)))
				all.event([]byte(line("fail", pkg, test)))
				all.event([]byte(line("fail", pkg, top)))
				continue
			}
			all.event([]byte(line("fail", pkg, test)))
		}
		return all
	}
	try := func(t *testing.T, all *tally, action string) (asked []string) {
		t.Helper()
		err := secondTry(t.Context(), all, func(pkg, run string) *exec.Cmd {
			asked = append(asked, pkg+" "+run)
			return exec.CommandContext(t.Context(), "printf", "%s", line(action, pkg, strings.Trim(run, "^$")))
		})
		if err != nil {
			t.Error(err)
		}
		return asked
	}
	t.Run("passes", func(t *testing.T) {
		all := fill("p TestA/x", "p TestA/y", "q TestB")
		if asked := try(t, all, "pass"); !slices.Equal(asked, []string{"p ^TestA$", "q ^TestB$"}) {
			t.Errorf("asked for %q", asked)
		}
		if all.failed != 0 || all.passed != 4 || len(all.failures) != 0 || !slices.Equal(all.second, []string{"p TestA", "q TestB"}) {
			t.Errorf("%+v", all)
		}
		if asked := try(t, all, "pass"); len(asked) != 0 {
			t.Errorf("asked again for %q", asked)
		}
	})
	t.Run("fails again", func(t *testing.T) {
		all := fill("p TestA")
		try(t, all, "fail")
		if all.failed != 1 || !slices.Equal(all.failures, []string{"p TestA"}) || len(all.second) != 0 {
			t.Errorf("%+v", all)
		}
		if asked := try(t, all, "pass"); len(asked) != 0 || all.failed != 1 {
			t.Errorf("a third try of %q", asked)
		}
	})
	t.Run("does not run", func(t *testing.T) {
		all := fill("p TestA")
		try(t, all, "output")
		if all.failed != 1 {
			t.Errorf("%+v", all)
		}
	})
	t.Run("too many", func(t *testing.T) {
		var fails []string
		for i := range maxSecond + 1 {
			fails = append(fails, fmt.Sprintf("p Test%d", i))
		}
		all := fill(fails...)
		if asked := try(t, all, "pass"); len(asked) != 0 || all.failed != maxSecond+1 {
			t.Errorf("asked for %q, %d failed", asked, all.failed)
		}
	})
	t.Run("a check", func(t *testing.T) {
		all := fill()
		all.count("go vet", "no")
		if asked := try(t, all, "pass"); len(asked) != 0 || all.failed != 1 {
			t.Errorf("asked for %q", asked)
		}
	})
}
