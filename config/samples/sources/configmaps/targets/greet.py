def greeting(name):
    return f"hello {name}"


if __name__ == "__main__":
    print(greeting("production"))
