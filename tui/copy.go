package tui

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// copier is a screen with something to copy: what it is, and its text; "" for nothing.
type copier interface {
	copied(a *app) (what, text string)
}

// copy gives what the screen shows to the clipboard.
func (a *app) copy() tea.Cmd {
	what, text := "", ""
	if s, ok := a.screen().(copier); ok {
		what, text = s.copied(a)
	}
	if text == "" {
		return a.fail("There is nothing to copy here.", "")
	}
	return a.copyText(what, text)
}

// copyText gives a text to the clipboard, or shows it where there is none. A terminal does not tell whether it took it.
func (a *app) copyText(what, text string) tea.Cmd {
	clip := a.clipboard
	if clip == nil {
		return a.fail("This terminal has no clipboard; "+what+" is: "+text, "")
	}
	return a.call(10*time.Second, "Given to the clipboard: "+what+" "+text, func(ctx context.Context) error { return clip(ctx, text) })
}

// clipboardOf returns what puts a text on the terminal's clipboard (OSC 52 of xterm's control sequences), nil where it would be
// drawn instead.
func clipboardOf(o Options) func(ctx context.Context, text string) error {
	if o.Env("TERM") == "linux" {
		return nil
	}
	return func(ctx context.Context, text string) error {
		order := "\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\a"
		switch {
		case o.Env("TMUX") != "":
			// tmux takes no such order from programs unless it was told to, but has a command of its own.
			cmd := exec.CommandContext(ctx, "tmux", "load-buffer", "-w", "-")
			cmd.Stdin = strings.NewReader(text)
			if cmd.Run() == nil {
				return nil
			}
			order += "\x1bPtmux;" + strings.ReplaceAll(order, "\x1b", "\x1b\x1b") + "\x1b\\"
		case strings.HasPrefix(o.Env("TERM"), "screen"):
			order = "\x1bP" + order + "\x1b\\"
		}
		_, err := io.WriteString(o.Output, order)
		return err
	}
}

// openerOf returns what shows a folder in the desktop's file manager, nil without a display.
func openerOf(env func(string) string) func(dir string) error {
	if env("DISPLAY") == "" && env("WAYLAND_DISPLAY") == "" {
		return nil
	}
	program, err := exec.LookPath("xdg-open")
	if err != nil {
		return nil
	}
	return func(dir string) error {
		cmd := exec.Command(program, dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what it opens outlives nigh
		if cmd.Run() != nil {
			return errors.New("the folder cannot be opened with xdg-open: it is " + dir)
		}
		return nil
	}
}

// folder opens the folder that a transfer comes from or goes to.
func (s *transfersScreen) folder(a *app, t *transfer) tea.Cmd {
	if t.Path == "" {
		return a.fail("Where it goes is known once it is accepted.", "")
	}
	dir, open := t.Path, a.openFolder
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return a.fail("The folder is not there now: "+dir+".", "")
	}
	if open == nil {
		return a.copyText("the folder", dir)
	}
	return tea.Batch(a.say("Opening "+dir), func() tea.Msg { return doneMsg{err: open(dir)} })
}
