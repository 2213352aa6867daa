// Package doctor finds out what keeps nigh from working on this machine, why, and what one thing to do about it. It only
// looks: it changes nothing, starts nothing and asks no other machine.
//
// [Run] makes all checks at once, each with a time limit. Its own are about the agent, files,
// the clock and firewalld; those of the radio and of links come from the packages wpa and link. The check "usable" sums up: it fails only when no way to
// another device is left.
//
// The agent calls it for GET /v1/doctor, and the command line does when no agent runs.
package doctor
