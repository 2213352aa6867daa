// Package node runs real nigh agents for tests, benchmarks and the demo: the
// built binary as a process of its own, with its own state, inbox and socket,
// wherever the caller's command function puts it (a namespace of [nigh/lab], a
// radio node of [nigh/lab/radio], or right here).
//
// It starts and asks; it knows nothing about radios or links. Callers end an
// agent with [Agent.Stop] or [Agent.Kill].
package node
