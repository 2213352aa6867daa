package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// follow takes what inotify tells until ctx ends. It only notes which directories are to be scanned, so that the kernel's queue stays short.
func (s *Shares) follow(ctx context.Context, w *fsnotify.Watcher) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return nil
			}
			s.touched(filepath.Dir(e.Name))
			if e.Has(fsnotify.Create) || e.Has(fsnotify.Chmod) {
				s.touched(e.Name) // if it is a directory
			}
		case err, ok := <-w.Errors:
			if !ok {
				return nil
			}
			s.log.Debug("Watching shared folders went wrong", "err", err)
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				s.touchedAll()
			}
		}
	}
}

// touched notes that the directory at path changed.
func (s *Shares) touched(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	any := false
	for _, f := range s.folders {
		switch {
		case path == filepath.Dir(f.Folder):
			f.dirty[""] = true // the share's folder itself
		case within(path, f.Folder):
			f.dirty[strings.TrimPrefix(strings.TrimPrefix(path, f.Folder), "/")] = true
		default:
			continue
		}
		any = true
		if len(f.dirty) > maxDirty {
			f.all = true
			clear(f.dirty)
		}
	}
	if any {
		signal(s.scan)
	}
}

// touchedAll notes that anything may have changed.
func (s *Shares) touchedAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.folders {
		f.all = true
	}
	signal(s.scan)
}

// watch has inotify tell of changes of the directory at path. Where it cannot, the share is scanned again and again.
func (s *Shares) watch(f *folder, dir *os.File, path string) {
	s.mu.Lock()
	w, why := s.watcher, s.noWatch
	polled := f.polled
	s.mu.Unlock()
	if polled != "" {
		return
	}
	if w != nil {
		if path == f.Folder && remote(dir) {
			why = errors.New("the kernel does not tell of changes on a network file system")
		} else {
			why = w.Add(path)
		}
	}
	switch {
	case why == nil, errors.Is(why, fs.ErrNotExist), errors.Is(why, unix.ENOTDIR), errors.Is(why, fsnotify.ErrClosed):
		return
	case errors.Is(why, unix.ENOSPC):
		why = errors.New("this user's inotify watches are used up (sysctl fs.inotify.max_user_watches)")
	case errors.Is(why, unix.EMFILE):
		why = errors.New("this user's inotify instances are used up (sysctl fs.inotify.max_user_instances)")
	}
	s.log.Warn("Share is scanned every ten minutes instead of watched", "share", f.ID, "err", why)
	s.mu.Lock()
	f.polled = fmt.Sprint(why)
	s.mu.Unlock()
	s.unwatch(f.Folder) // they are of no use by half
}

// unwatch ends the watches below a share's folder that no other share needs.
func (s *Shares) unwatch(folder string) {
	s.mu.Lock()
	w := s.watcher
	var others []string
	for _, f := range s.folders {
		if f.Folder != folder {
			others = append(others, f.Folder)
		}
	}
	s.mu.Unlock()
	if w == nil {
		return
	}
	for _, path := range w.WatchList() {
		needed := !within(path, folder)
		for _, other := range others {
			needed = needed || within(path, other)
		}
		if !needed {
			_ = w.Remove(path) // it may have ended by itself
		}
	}
}

// unwatchAll ends the watches of directories below a share's folder and of those in them.
func (s *Shares) unwatchAll(folder string, dirs map[string]bool) {
	s.mu.Lock()
	w := s.watcher
	s.mu.Unlock()
	if w == nil || len(dirs) == 0 {
		return
	}
	for _, path := range w.WatchList() {
		rel, ok := strings.CutPrefix(path, folder+"/")
		for ok && rel != "." && rel != "" {
			if dirs[rel] {
				_ = w.Remove(path) // it may have ended by itself
				break
			}
			rel, _ = splitPath(rel)
		}
	}
}
