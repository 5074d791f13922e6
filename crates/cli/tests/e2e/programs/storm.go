// A static Go client and server in one process under a storm of SIGURG, the signal Go's own scheduler uses.
// storm HZ COUNT: every connection must be accepted once and carry its bytes; prints facts, then waits to be ended.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	hz, _ := strconv.Atoi(os.Args[1])
	count, _ := strconv.Atoi(os.Args[2])
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println("listen:", err)
		os.Exit(1)
	}
	stop := make(chan bool)
	go func() {
		t := time.NewTicker(time.Second / time.Duration(hz))
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				syscall.Kill(os.Getpid(), syscall.SIGURG)
			}
		}
	}()
	var mu sync.Mutex
	seen := map[string]int{}
	var servers, clients sync.WaitGroup
	servers.Add(count)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				fmt.Println("accept:", err)
				return
			}
			go func() {
				defer servers.Done()
				defer c.Close()
				b, _ := io.ReadAll(c)
				mu.Lock()
				seen[string(b)]++
				mu.Unlock()
				c.Write(b)
			}()
		}
	}()
	bad := 0
	work := make(chan int)
	for w := 0; w < 4; w++ {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for i := range work {
				c, err := net.Dial("tcp4", l.Addr().String())
				if err == nil {
					fmt.Fprintf(c, "connection %d", i)
					c.(*net.TCPConn).CloseWrite()
					b, _ := io.ReadAll(c)
					if string(b) != fmt.Sprintf("connection %d", i) {
						err = fmt.Errorf("got %q", b)
					}
					c.Close()
				}
				if err != nil {
					fmt.Println("connection", i, err)
					mu.Lock()
					bad++
					mu.Unlock()
				}
			}
		}()
	}
	for i := 0; i < count; i++ {
		work <- i
	}
	close(work)
	clients.Wait()
	close(stop)
	time.Sleep(200 * time.Millisecond)
	mu.Lock()
	once := len(seen) == count
	for k, n := range seen {
		if n != 1 {
			once = false
			fmt.Println(k, n)
		}
	}
	mu.Unlock()
	fmt.Println("bad", bad, "exactly once", once)
	fmt.Println("done")
	time.Sleep(60 * time.Second)
}
