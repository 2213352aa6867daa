package session

func nodeMain() {}
