-- wrk: HEAD. No `request` function, so the request is made once.
wrk.method = "HEAD"
