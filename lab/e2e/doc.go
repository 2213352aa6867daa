// Package e2e has the tests of the whole program: real agents as processes on the hosts of package lab, driven by the
// command line and the TUI as people drive them. It holds no code of its own.
package e2e
