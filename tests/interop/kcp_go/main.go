// kcp_go is the other end of tests/interop/test_kcp_go.py: an echo server on kcp-go, through its published API alone.
//
// It prints the address it listens at, then answers what each Read returns with four bytes of its length (big-endian)
// and the bytes: so the test sees where kcp-go saw messages begin and end, though its own Write keeps no boundaries.
// It ends when its standard input does.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o kcp_go main.go
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/xtaci/kcp-go"
)

const (
	window     = 128
	messageMax = 1 << 20
)

func main() {
	mtu := flag.Int("mtu", 1200, "KCP bytes per datagram")
	stream := flag.Bool("stream", false, "send in stream mode")
	flag.Parse()

	listener, err := kcp.ListenWithOptions("127.0.0.1:0", nil, 0, 0)
	if err != nil {
		fail(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		session, err := listener.AcceptKCP()
		if err != nil {
			fail(err)
		}
		session.SetNoDelay(1, 10, 2, 1)
		session.SetWindowSize(window, window)
		session.SetStreamMode(*stream)
		if !session.SetMtu(*mtu) {
			fail(fmt.Errorf("no mtu of %d", *mtu))
		}
		go echo(session)
	}
}

func echo(session io.ReadWriter) {
	answer := make([]byte, 4+messageMax)
	for {
		n, err := session.Read(answer[4:])
		if err != nil {
			fail(err)
		}
		binary.BigEndian.PutUint32(answer, uint32(n))
		if _, err := session.Write(answer[:4+n]); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kcp_go:", err)
	os.Exit(1)
}
