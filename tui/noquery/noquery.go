// Package noquery keeps bubbletea v1 from asking the terminal for its
// background colour when the program starts.
//
// Importing bubbletea v1 runs an init function that writes an OSC 11 query to
// standard output and reads the answer from it, for every command of the
// program and not only for the terminal UI: typed-ahead keys are lost, and a
// terminal that does not answer costs five seconds. The query is left out when
// the variable CI is set, so this package sets it before that init function
// runs, and [Restore] takes it away afterwards.
//
// That it runs before is the language's promise: packages are initialised in
// the order of their import paths as soon as their imports are, and this one
// needs nothing but syscall, which bubbletea needs too. A test with a terminal
// that does not answer holds it to that.
package noquery

import "syscall"

const name = "CI"

var set = func() bool {
	if v, ok := syscall.Getenv(name); ok && v != "" {
		return false
	}
	return syscall.Setenv(name, "nigh") == nil
}()

// Restore takes the variable away again when this package has set it. Package
// tui calls it in its own initialisation, after bubbletea's.
func Restore() {
	if set {
		_ = syscall.Unsetenv(name)
		set = false
	}
}
