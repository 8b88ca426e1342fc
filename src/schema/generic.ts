export interface GeneratedClass {
  new (): any;
}
