package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"nigh/lab/vm"
)

func demoVerb(ctx context.Context, args []string) error {
	o := newOptions("demo", 20*time.Minute)
	auto := o.set.Bool("auto", false, "run by itself: do not show the first node's terminal UI, not even on a terminal")
	verbose := o.set.Bool("v", false, "print the agents' logs at the end")
	if err := o.parse(args, 0, 0); err != nil {
		return err
	}
	parts, err := prepare(ctx)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "nigh-lab-bin-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // two binaries too many below /tmp at worst
	nigh, demo := filepath.Join(folder, "nigh"), filepath.Join(folder, "demo")
	for binary, source := range map[string]string{nigh: "nigh", demo: "nigh/lab/demo"} {
		if err := goBuild(ctx, "", "build", "-o", binary, source); err != nil {
			return err
		}
	}
	c := vm.Command{Args: []string{demo, "-nigh", nigh}, Output: os.Stdout}
	if *verbose {
		c.Args = append(c.Args, "-v")
	}
	if !*auto && onTerminal() {
		c.Args, c.Terminal = append(c.Args, "-tui"), true
		// The terminal is this machine's, so what it can draw is said here.
		for _, key := range []string{"TERM", "COLORTERM", "COLORFGBG", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR"} {
			if v := os.Getenv(key); v != "" {
				c.Env = append(c.Env, key+"="+v)
			}
		}
	}
	g, err := o.boot(ctx, parts, folder)
	if err != nil {
		return err
	}
	return g.once(c)
}
