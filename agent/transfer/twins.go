package transfer

import (
	"strings"

	"nigh/agent/receive"
)

// twins finds names that a file system which ignores case or Unicode form takes for one with a name before: the second would be written
// into the first. Only the directories on the way to the current entry are remembered. A nil one finds none.
type twins struct {
	dirs []siblings // dirs[i] holds the names in the directory of depth i
}

type siblings struct {
	dir   string
	names map[string]bool
}

func newTwins() *twins { return &twins{dirs: []siblings{{names: map[string]bool{}}}} }

// has reports whether the path, which comes in the order of a manifest, is a twin or lies below one. Twins of top-level names are none:
// their parts have names of their own, and Commit finds free final ones.
func (t *twins) has(path string) bool {
	if t == nil {
		return false
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	depth := len(t.dirs) - 1
	for t.dirs[depth].dir != parent {
		if depth--; depth < 0 {
			return true // its directory was a twin, so it is not among them
		}
	}
	t.dirs = t.dirs[:depth+1]
	key := receive.Fold(name)
	if parent != "" && t.dirs[depth].names[key] {
		return true
	}
	t.dirs[depth].names[key] = true
	// Should it be a directory: the entries after it lie in it.
	t.dirs = append(t.dirs, siblings{dir: strings.Clone(path), names: map[string]bool{}})
	return false
}
