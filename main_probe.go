//go:build probe

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"nigh/agent/sandbox"
)

// A program built with the tag probe lets a test ask the agent's process for files: the test of the sandbox, which no released
// program has. NIGH_PROBE names a file with a line "VERB PATH" for each question. What became of them is in files beside it:
// .before from the start of the process, when no sandbox is in force, and .after from each SIGUSR1.
func init() {
	questions := os.Getenv("NIGH_PROBE")
	if questions == "" || len(os.Args) < 2 || os.Args[1] != "agent" {
		return
	}
	probe(questions, ".before")
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() { // ends with the process
		for range asked {
			probe(questions, ".after")
		}
	}()
}

func probe(questions, suffix string) {
	text, err := os.ReadFile(questions)
	if err != nil {
		panic(err)
	}
	var answers strings.Builder
	for line := range strings.Lines(string(text)) {
		verb, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "ok"
		if err := try(verb, path); err != nil {
			answer = err.Error()
		}
		fmt.Fprintf(&answers, "%s %s: %s\n", verb, path, answer)
	}
	fresh := questions + ".new"
	if err := os.WriteFile(fresh, []byte(answers.String()), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(fresh, questions+suffix); err != nil {
		panic(err)
	}
}

func try(verb, path string) error {
	switch verb {
	case "read":
		_, err := os.ReadFile(path)
		return err
	case "list":
		_, err := os.ReadDir(path)
		return err
	case "write":
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	case "make":
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return os.Remove(path)
	case "run": // a program that the process starts
		return exec.Command("/bin/cat", path).Run()
	case "link": // read through a link in a folder that may be used
		link := os.Getenv("NIGH_PROBE") + ".link"
		defer func() { _ = os.Remove(link) }()
		if err := os.Symlink(path, link); err != nil {
			return err
		}
		return try("read", link)
	case "broker":
		fd, err := sandbox.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case "memory": // of the broker: who could change it could have it open anything
		f, err := os.Open("/proc/" + brokerPID() + "/mem")
		if err != nil {
			return err
		}
		return f.Close()
	}
	return fmt.Errorf("no verb %q", verb)
}

// brokerPID is "self" before there is one.
func brokerPID() string {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	for pid := range strings.FieldsSeq(string(children)) {
		return pid
	}
	return "self"
}
