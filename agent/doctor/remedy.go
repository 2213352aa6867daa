package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Remedy is a change of the system that `nigh doctor --fix` makes when a person agreed: one file, some commands, or both. It can
// be taken back, also after a restart: what was done is in a journal, written before anything is.
type Remedy struct {
	Name string // after --fix
	Does string // what it does, one sentence
	Lost string // what is lost by it, one sentence; "" = nothing
	Path string // of the file; "" = none
	Text string // of the file, or what is put before its first line

	before bool       // Text goes before what the file has
	apply  [][]string // commands, once the file is there
	back   [][]string // commands that take those back, while the file is still there
	after  [][]string // commands, once the file is gone

	look func(context.Context, *Remedy) error // finds the commands out when they are needed; nil = they are known
	// lookBack finds the commands of back out when they are needed; nil = they are in the journal.
	lookBack func(context.Context) ([][]string, error)

	reload  func(context.Context) error // has the program that reads the file read it again; nil = nobody
	journal string                      // path of the journal
}

// ErrForeign is wrapped by errors about a file that somebody else wrote or changed, which is left alone.
var ErrForeign = errors.New("the file is not nigh's")

// commandLimit bounds each command of a remedy.
const commandLimit = time.Minute

// Plan returns the command lines that Apply, or Undo, will run, exactly, for a person to see before. It may ask the system what is
// in place now, and fails when there is nothing that the remedy could mend.
func (r *Remedy) Plan(ctx context.Context, undo bool) ([]string, error) {
	if !undo {
		if r.look != nil {
			if err := r.look(ctx, r); err != nil {
				return nil, fmt.Errorf("doctor: %w", err)
			}
		}
		return lines(r.apply), nil
	}
	done, err := r.made(ctx)
	if err != nil {
		return nil, err
	}
	return lines(slices.Concat(done.Back, done.After)), nil
}

// made is what there is to take back.
func (r *Remedy) made(ctx context.Context) (deed, error) {
	done, err := r.done()
	if err == nil && r.lookBack != nil {
		if done.Back, err = r.lookBack(ctx); err != nil {
			err = fmt.Errorf("doctor: %w", err)
		}
	}
	return done, err
}

func lines(commands [][]string) []string {
	var out []string
	for _, c := range commands {
		words := make([]string, len(c))
		for i, w := range c {
			if strings.ContainsAny(w, " {}'\"") {
				w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
			}
			words[i] = w
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// InForce reports whether nigh has made the change. Another file in the place of ours is ErrForeign.
func (r *Remedy) InForce() (bool, error) {
	there, err := r.file()
	if err != nil || r.reload != nil { // the file is all there is
		return there, err
	}
	done, err := r.done()
	return done.Name != "", err
}

// file reports whether the file is there with our text.
func (r *Remedy) file() (bool, error) {
	if r.Path == "" {
		return false, nil
	}
	text, err := os.ReadFile(r.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("doctor: %w", err)
	case r.before:
		return strings.HasPrefix(string(text), r.Text), nil
	case string(text) != r.Text:
		return false, fmt.Errorf("doctor: %s: %w", r.Path, ErrForeign)
	}
	return true, nil
}

// Allowed is nil when this user may make the change.
func (r *Remedy) Allowed() error {
	if r.Path != "" {
		if err := writable(Existing(filepath.Dir(r.Path))); err != nil {
			return fmt.Errorf("doctor: %w", err)
		}
	}
	if r.reload == nil && os.Geteuid() != 0 {
		return fmt.Errorf("doctor: %w", fs.ErrPermission)
	}
	return nil
}

// Apply makes the change. When a part of it fails, what was done of it is taken back. It runs what Plan said, which must have
// been called.
func (r *Remedy) Apply(ctx context.Context) error {
	if there, err := r.InForce(); err != nil || there {
		return err
	}
	there, err := r.file()
	if err != nil {
		return err
	}
	done := deed{Name: r.Name, Back: r.back, After: r.after}
	if r.Path != "" && !there {
		done.Path, done.Text, done.Above = r.Path, r.Text, outermost(r.Path)
	}
	if err := r.note(done); err != nil {
		return err
	}
	undo := func(err error) error {
		// The caller's time may be what ran out.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandLimit)
		defer cancel()
		return fmt.Errorf("doctor: %w", errors.Join(err, r.revert(ctx, done, true)))
	}
	if done.Path != "" {
		if err := r.write(); err != nil {
			return undo(err)
		}
	}
	for _, c := range r.apply {
		if err := command(ctx, c); err != nil {
			return undo(err)
		}
	}
	if r.reload != nil {
		if err := r.reload(ctx); err != nil {
			// Unheard of by its reader, the file would come into force at some later time.
			err = errors.Join(err, os.Remove(r.Path))
			done.tidy()
			return fmt.Errorf("doctor: %w", errors.Join(err, r.forget()))
		}
	}
	return nil
}

// Undo takes the change back. Where there is none it does nothing.
func (r *Remedy) Undo(ctx context.Context) error {
	there, err := r.InForce()
	if err != nil || !there {
		return err
	}
	done, err := r.made(ctx)
	if err != nil {
		return err
	}
	if r.reload != nil {
		done = deed{Name: r.Name, Path: r.Path, Text: r.Text, Above: done.Above} // also of a version that kept no journal
	}
	if err := r.revert(ctx, done, false); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	if r.reload != nil {
		if err := r.reload(ctx); err != nil {
			return fmt.Errorf("doctor: %s is removed, but: %w", r.Path, err)
		}
	}
	return nil
}

// revert undoes a deed and forgets it. hasty goes on after an error: the deed was not finished.
func (r *Remedy) revert(ctx context.Context, done deed, hasty bool) error {
	var errs []error
	run := func(commands [][]string) {
		for _, c := range commands {
			if err := command(ctx, c); err != nil && !hasty {
				errs = append(errs, err)
			}
		}
	}
	run(done.Back)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if done.Path != "" {
		errs = append(errs, r.remove(done))
	}
	run(done.After)
	done.tidy()
	if errors.Join(errs...) == nil {
		errs = append(errs, r.forget())
	}
	return errors.Join(errs...)
}

// write makes the file whole or not at all, under a name that its reader ignores meanwhile.
func (r *Remedy) write() error {
	text, mode := r.Text, fs.FileMode(0o644)
	if r.before {
		old, err := os.ReadFile(r.Path)
		if err != nil {
			return err
		}
		if info, err := os.Stat(r.Path); err == nil {
			mode = info.Mode().Perm()
		}
		text += string(old)
	}
	return replaceFile(r.Path, text, mode)
}

// remove takes the file away, or our lines out of it, unless somebody has changed them since.
func (r *Remedy) remove(done deed) error {
	old, err := os.ReadFile(done.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case r.before && strings.Contains(string(old), done.Text):
		info, err := os.Stat(done.Path)
		if err != nil {
			return err
		}
		return replaceFile(done.Path, strings.Replace(string(old), done.Text, "", 1), info.Mode().Perm())
	case r.before:
		return nil // gone already
	case string(old) != done.Text:
		return fmt.Errorf("%s: %w", done.Path, ErrForeign)
	}
	return os.Remove(done.Path)
}

func replaceFile(path, text string, mode fs.FileMode) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(folder, ".nigh-*")
	if err != nil {
		return err
	}
	_, err = fresh.WriteString(text)
	err = errors.Join(err, fresh.Chmod(mode), fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return nil
}

// command runs a program, and gives what it said when it fails.
func command(ctx context.Context, words []string) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	path, err := exec.LookPath(words[0])
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, words[0]))
		}
	}
	if err != nil {
		return fmt.Errorf("the program %s is not installed", words[0])
	}
	out, err := exec.CommandContext(ctx, path, words[1:]...).CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out))
		if len(said) > 400 {
			said = said[:400]
		}
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, said)
	}
	return nil
}
